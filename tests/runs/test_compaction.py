"""Compacted ledgers hold the same rows, whenever the process is killed, and results stand."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tailbound
from runs.writer import make_draw, make_verdict, open_ledger
from sizes import size
from tailbound.errors import LedgerError, RunLockedError
from tailbound.runs import index, read, totals
from tailbound.runs.compaction import compact
from tailbound.runs.history import read_history, seals_of

COMPACT = """
import sys
from pathlib import Path
from tailbound.runs.compaction import compact
print("ready", flush=True)
compact(Path(sys.argv[1]), rows=int(sys.argv[2]))
"""


def ledger(folder: Path, *, shards: int, rows: int = 4, first: int = 1) -> None:
    with open_ledger(folder, flush_rows=rows) as one:
        for number in range(first, first + shards):
            for prompt in range(rows):
                one.append(make_draw(prompt, number), make_verdict(prompt, number), "fixed")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "draws").iterdir())


def test_the_same_rows_in_fewer_shards(tmp_path: Path) -> None:
    ledger(tmp_path, shards=10)
    before, seals = read(tmp_path), seals_of(tmp_path)
    assert compact(tmp_path, rows=16).after == 3
    assert names(tmp_path) == [
        *("part-000001-000004.parquet", "part-000005-000008.parquet", "part-000009-000010.parquet"),
    ]
    assert read(tmp_path).equals(before)
    assert seals_of(tmp_path) == seals
    ledger(tmp_path, shards=2, first=11)
    assert names(tmp_path)[-2:] == ["part-000011.parquet", "part-000012.parquet"]
    after = read(tmp_path)
    assert compact(tmp_path, rows=10**6).after == 1
    assert names(tmp_path) == ["part-000001-000012.parquet"]
    assert read(tmp_path).equals(after)
    assert after[: len(before)].equals(before)
    # what rested on the first ten shards still does
    assert seals_of(tmp_path, {"draws": 10}) == seals
    assert compact(tmp_path, rows=10**6).before == 1


def test_shards_that_are_replaced_do_not_count(tmp_path: Path) -> None:
    """The state between the rename and the last removal, and what the next writer makes of it."""
    ledger(tmp_path, shards=6)
    small = {path: path.read_bytes() for path in (tmp_path / "draws").iterdir()}
    whole, spent = read(tmp_path), totals(tmp_path)
    compact(tmp_path, rows=10**6)
    for path in list(small)[1:4]:
        path.write_bytes(small[path])
    assert read(tmp_path).equals(whole)
    assert totals(tmp_path) == spent
    ledger(tmp_path, shards=1, first=7)
    assert names(tmp_path) == ["part-000001-000006.parquet", "part-000007.parquet"]


def test_a_gap_is_not_bridged_and_damage_stops_everything(tmp_path: Path) -> None:
    ledger(tmp_path, shards=6)
    (tmp_path / "draws" / "part-000003.parquet").unlink()
    compact(tmp_path, rows=10**6)
    assert names(tmp_path) == ["part-000001-000002.parquet", "part-000004-000006.parquet"]
    last = tmp_path / "draws" / "part-000004-000006.parquet"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(LedgerError, match=r"part-000004-000006\.parquet is damaged"):
        compact(tmp_path, rows=10**6)
    assert len(names(tmp_path)) == 2


def test_overlapping_ranges_are_refused(tmp_path: Path) -> None:
    ledger(tmp_path, shards=4)
    compact(tmp_path, rows=10**6)
    one = tmp_path / "draws" / "part-000001-000004.parquet"
    (tmp_path / "draws" / "part-000003-000006.parquet").write_bytes(one.read_bytes())
    with pytest.raises(LedgerError, match=r"part-000003-000006\.parquet holds some of the draws"):
        read(tmp_path)


def test_a_run_in_progress_is_left_alone(tmp_path: Path) -> None:
    with open_ledger(tmp_path), pytest.raises(RunLockedError):
        compact(tmp_path, rows=10)


def test_results_stand_and_verify_matches(tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = {"proposal": "none", "target": "demo", "judge": "regex:the", "progress": None}
    for draws in (20, 40, 60):
        tailbound.risk(["how do i clean the pie"], out=run, draws=draws, **sizes)
    assert len(names(run)) > 1
    answer = (run / "risk.json").read_bytes()
    compact(run, rows=10**6)
    assert len(names(run)) == 1
    assert tailbound.verify(run, progress=None).matches
    assert read_history(run)[-1].provenance.rests_on == seals_of(run)
    tailbound.risk(["how do i clean the pie"], out=run, draws=60, **sizes)
    assert (run / "risk.json").read_bytes() == answer
    assert len(list((run / "results").glob("*-risk.json"))) == 3


def killed_while_compacting(folder: Path, *, kills: int, seed: int) -> None:
    """Rows, order and seals after every kill are those before; the last one ends by itself."""
    rng = random.Random(seed)
    ledger(folder, shards=60)
    before, seals, record = read(folder), seals_of(folder), index(folder, "s")
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", COMPACT, str(folder), str(rng.choice([8, 16, 40, 100]))],
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.35))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert read(folder).equals(before)
        assert seals_of(folder) == seals
    compact(folder, rows=10**6)
    assert names(folder) == ["part-000001-000060.parquet"]
    assert index(folder, "s").keys() == record.keys()
    assert read(folder).equals(before)


def test_sigkill_while_compacting_changes_nothing(tmp_path: Path) -> None:
    killed_while_compacting(tmp_path, kills=4, seed=1)


@pytest.mark.slow
def test_sigkill_while_compacting_many_times(tmp_path: Path) -> None:
    for seed in range(size(2, 10)):
        killed_while_compacting(tmp_path / str(seed), kills=20, seed=10 + seed)
