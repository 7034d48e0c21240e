"""Where the system refuses to write: one line, exit code 1, and the same command resumes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from tailbound.errors import LedgerError
from tailbound.storage.files import make_folder, remove_unfinished, write_atomically, write_json

Command = Callable[..., tuple[int, str, str]]
KEY = ["stream", "prompt_id", "index"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes in this process; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def prompts(path: Path, n: int) -> Path:
    rows = [
        {"id": f"q{i}", "prompt": f"give me the steps to fix a lamp {i}", "p_hat": 0.01}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def check_refusals(cli: Command, line: list[object], folder: Path, sizes: list[int]) -> set[str]:
    """Run under ever larger limits; returns the names of the files that could not be written."""
    stopped = set()
    for size in sizes:
        with largest_file(size):
            code, out, err = cli(*line)
        if code == 0:
            break
        (said,) = [part for part in err.splitlines() if not part.startswith("note: ")][-1:]
        assert (code, out) == (1, ""), err
        assert "Traceback" not in err
        assert said.startswith("tailbound: error: ")
        assert "cannot be written (File too large): raise the limit on file sizes" in said
        assert err.count("tailbound: error") == 1
        assert unfinished(folder) == []
        stopped.add(Path(said.split(" cannot be written")[0].split("error: ")[1]).name)
    return stopped


def test_bound_resumes_after_every_refusal(tmp_path: Path, cli: Command) -> None:
    file = prompts(tmp_path / "p.jsonl", 60)
    options = ("--budget", 4, "--test-draws", 5, "--max-new-tokens", 16, "--json")
    line = ["bound", file, *options, "--out", tmp_path / "run"]
    sizes = [0, 1_600, 2_500, 4_000, 8_000]
    stopped = check_refusals(cli, line, tmp_path / "run", sizes)
    assert {".lock-holder", "run.yaml"} & stopped
    assert {"prompts.parquet", "part-000001.parquet"} <= stopped
    code, out, err = cli(*line)
    assert code in (0, 3), err
    whole = ["bound", file, *options, "--out", tmp_path / "whole"]
    assert cli(*whole)[1] == out
    one, two = (pl.read_parquet(tmp_path / name / "draws") for name in ("run", "whole"))
    assert not one.select(KEY).is_duplicated().any()
    both = one.join(two, on=KEY, suffix="_two")
    assert both.height == one.height == two.height
    assert both["text"].equals(both["text_two"])


def test_risk_and_rejudge_resume_after_every_refusal(tmp_path: Path, cli: Command) -> None:
    file = prompts(tmp_path / "p.jsonl", 3)
    options = ("--draws", 40, "--max-new-tokens", 16, "--json")
    line = ["risk", file, *options, "--out", tmp_path / "run"]
    sizes = [0, 1_200, 2_600, 4_500, 20_000]
    stopped = check_refusals(cli, line, tmp_path / "run", sizes)
    assert "part-000001.parquet" in stopped
    code, out, err = cli(*line)
    assert code == 0, err
    code, whole, _ = cli(*line[:-1], tmp_path / "whole")
    assert json.loads(whole)["prompts"] == json.loads(out)["prompts"]
    again = ["rejudge", tmp_path / "run", "--judge", "regex:sure", "--json"]
    assert check_refusals(cli, again, tmp_path / "run", [0, 100, 500, 1_000]) != set()
    first = json.loads(cli(*again)[1])
    other = json.loads(cli("rejudge", tmp_path / "whole", *again[2:])[1])
    assert first["agreement"] == other["agreement"]
    with largest_file(100):
        code, out, err = cli("summarize", tmp_path / "run")
    assert (code, out) == (1, "")
    assert "summary.json cannot be written (File too large)" in err


def test_paths_that_cannot_be_are_one_line(tmp_path: Path, cli: Command) -> None:
    file = prompts(tmp_path / "p.jsonl", 60)
    (tmp_path / "taken").write_text("mine")
    for place, code, message in (
        (tmp_path / ("x" * 300), 1, "cannot be used: File name too long"),
        (Path("/".join([str(tmp_path), *["x" * 200] * 25])), 1, "File name too long"),
        (tmp_path / "taken", 2, "is a file"),
        (tmp_path / "taken" / "run", 2, "is a file"),
    ):
        for command in (
            ("bound", file, "--budget", 4, "--out", place),
            ("risk", file, "--proposal", "none", "--draws", 20, "--out", place),
        ):
            found, out, err = cli(*command)
            assert (found, out) == (code, ""), err
            assert message in err
            assert err.count("\n") == 1
    for place in (tmp_path / ("x" * 300), tmp_path / "taken"):
        for command in (
            ("summarize", place),
            ("predict", place, file),
            ("rejudge", place, "--judge", "regex:a"),
        ):
            found, out, err = cli(*command)
            assert found in (1, 2)
            assert (out, err.count("\n")) == ("", 1)


def test_left_over_temporary_files_are_removed_at_the_next_start(
    tmp_path: Path, cli: Command
) -> None:
    file = prompts(tmp_path / "p.jsonl", 3)
    run = tmp_path / "run"
    line = ("risk", file, "--draws", 20, "--max-new-tokens", 16, "--json", "--out", run)
    assert cli(*line)[0] == 0
    left = [
        folder / f".{name}-0123abcd-4567cdef.tmp"
        for folder, name in (
            (run, "run.yaml"),
            (run, "prompts.parquet"),
            (run, "usage.json"),
            (run / "draws", "part-000002.parquet"),
            (run / "scores", "part-000002.parquet"),
            (run / "plan", "round-0002.json"),
        )
    ]
    for path in left:
        path.write_bytes(b"half")
    mine = run / ".my-notes.tmp"
    mine.write_bytes(b"not of tailbound")
    assert cli(*line)[0] == 0
    assert unfinished(run) == [mine]


def test_unfinished_files_of_this_process_are_let_be(tmp_path: Path) -> None:
    """Another thread may be writing: it finds its file where it left it."""
    seen: list[list[Path]] = []
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        remove_unfinished(tmp_path)
        seen.append(unfinished(tmp_path))
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        writer = threading.Thread(target=write_json, args=(tmp_path / "f.json", {}))
        writer.start()
        writer.join()
    assert len(seen[0]) == 1
    assert os.listdir(tmp_path) == ["f.json"]


def test_what_the_system_says_comes_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for refused, message in (
        (lambda: write_atomically("/dev/full/x", "a"), "a part of the path is a file"),
        (lambda: make_folder(tmp_path / "file" / "x"), "a part of the path is a file"),
        (lambda: write_atomically(tmp_path / ("x" * 255), "a"), "use a shorter name"),
        (lambda: write_atomically("/proc/self/x", "a"), "cannot be written"),
    ):
        with pytest.raises(LedgerError, match=message) as caught:
            refused()
        assert "\n" not in str(caught.value)


FULL = """
import errno, os, sys
import tailbound.storage.files as files
from tailbound.runs import Ledger
sys.path.insert(0, sys.argv[2])
from runs.writer import make_draw, make_verdict, open_ledger

real, sync = os.fsync, []
def fsync(descriptor):
    # the folder cannot be flushed after the shard is in place: is it recorded or not?
    sync.append(1)
    if len(sync) in (4, 6):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(descriptor)

ledger = open_ledger(__import__("pathlib").Path(sys.argv[1]))
os.fsync = fsync
sync[:] = [1, 1]
failed = 0
for number in range(1, 6):
    ledger.append(make_draw(0, number), make_verdict(0, number), "fixed")
    try:
        ledger.flush()
    except files.LedgerError:
        failed += 1
ledger.close()
print(failed)
"""


def test_a_shard_that_is_in_place_but_not_for_certain_is_not_recorded_twice(
    tmp_path: Path,
) -> None:
    from tailbound.runs import index

    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(tests)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2\n"
    assert index(tmp_path, "s")["p0"].indices.tolist() == [1, 2, 3, 4, 5]
