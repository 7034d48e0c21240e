"""No result is overwritten without a trace, and nothing is lost where a process is killed."""

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tailbound
from tailbound.demo.files import default_prompts
from tailbound.errors import LedgerError
from tailbound.runs import history
from tailbound.runs.history import keep_before, keep_result, read_history, seals_of
from tailbound.runs.identity import read_identity
from tailbound.storage.documents import read_json
from tailbound.storage.parquet import read_sealed, write_sealed

PROMPTS = ["how do i clean the pie", "how do i make a cake"]
SIZES: dict[str, Any] = {"draws": 20, "proposal": "none", "target": "demo", "judge": "regex:the"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    tailbound.risk(PROMPTS, out=folder, progress=None, **SIZES)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def names(home: Path) -> list[str]:
    return [path.name for path in sorted((home / "results").glob("[0-9]*"))]


def test_each_result_says_where_it_came_from(folder: Path) -> None:
    (first,) = read_history(folder)
    held = read_json(folder / "risk.json")
    assert first.result == held
    made = first.provenance
    assert made.date is not None
    assert made.date.endswith("Z")
    assert (made.command, made.target, made.judge) == ("risk", "demo", "regex:the")
    run = tailbound.load_run(folder)
    assert made.contract == run.manifest["contract"]["digest"]
    assert made.options == run.manifest["options"]
    assert made.tailbound == tailbound.__version__
    assert made.rests_on == seals_of(folder)
    assert made.rests_on["draws"].files == len(list((folder / "draws").glob("*.parquet")))
    assert [asdict(one) for one in run.history] == [asdict(first)]


def test_a_repeat_adds_nothing_and_other_options_or_draws_do(folder: Path) -> None:
    plain = (folder / "risk.json").read_bytes()
    tailbound.risk(PROMPTS, out=folder, progress=None, **SIZES)
    assert names(folder) == ["0001-risk.json"]
    tailbound.risk(PROMPTS, out=folder, progress=None, **{**SIZES, "draws": 40})
    assert names(folder) == ["0001-risk.json", "0002-risk.json"]
    earlier, newest = read_history(folder)
    assert earlier.result == {k: v for k, v in json.loads(plain).items() if k != "checksum"}
    assert newest.result == read_json(folder / "risk.json")
    assert earlier.provenance.rests_on != newest.provenance.rests_on
    # shards are only added: the draws of the earlier result are still there, and can be named
    files = {place: seals.files for place, seals in earlier.provenance.rests_on.items()}
    assert seals_of(folder, files) == earlier.provenance.rests_on


def test_summaries_forecasts_and_other_judges(folder: Path) -> None:
    for k in ((10,), (10,), (5,)):
        tailbound.summarize(folder, k=k)
    assert names(folder) == ["0001-risk.json", "0002-summary.json", "0003-summary.json"]
    options = [one.provenance.options["k"] for one in read_history(folder)[1:]]
    assert options == [[10], [5]]
    for _ in range(2):  # how many draws the call itself judged is no other result
        tailbound.rejudge(folder, "regex:pie", progress=None)
    (home,) = (folder / "verdicts").iterdir()
    (agreement,) = read_history(home)
    assert agreement.provenance.judge == "regex:pie"
    assert set(agreement.provenance.rests_on) == {"draws", "verdicts"}
    for draws in (100, 100, 200):
        tailbound.forecast_deployment(folder, draws=(draws,), progress=None)
    assert names(folder)[3:] == ["0004-forecast.json", "0005-forecast.json"]


def test_a_bound_under_other_options(tmp_path: Path) -> None:
    sizes = {"budget": 5, "train_draws": 5, "test_draws": 5, "max_new_tokens": 8}
    asked: dict[str, Any] = {"out": tmp_path, "progress": None, **sizes}
    prompts = default_prompts(60)
    first = tailbound.bound(prompts, **asked)
    tailbound.bound(prompts, **asked)
    tailbound.bound(prompts, alpha=0.3, **asked)
    earlier, newest = read_history(tmp_path)
    assert (earlier.name, newest.name) == ("bound", "bound")
    assert earlier.provenance.options["alphas"] == [0.1]
    assert newest.provenance.options["alphas"] == [0.3]
    assert earlier.result == {k: v for k, v in first.to_dict().items() if k != "spend"}
    assert tailbound.verify(tmp_path, progress=None).matches


def test_a_result_without_a_history_is_kept_before_it_is_overwritten(folder: Path) -> None:
    for path in (folder / "results").glob("[0-9]*"):
        path.unlink()
    held = read_json(folder / "risk.json")
    tailbound.risk(PROMPTS, out=folder, progress=None, **{**SIZES, "draws": 40})
    found, newest = read_history(folder)
    assert found.result == held
    assert (found.provenance.date, found.provenance.options) == (None, {})
    assert newest.provenance.date is not None
    # and where it is removed without another in its place
    (folder / "results" / "0001-risk.json").unlink()
    (folder / "results" / "0002-risk.json").unlink()
    keep_before(folder, "risk", lambda: read_json(folder / "risk.json"))
    assert [one.provenance.date for one in read_history(folder)] == [None]


KILLED = """
import os, signal, sys
from tailbound.workflows.summarize import summary
import tailbound

write = summary.write_json
def killed(path, document):
    if sys.argv[2] == "after":
        write(path, document)
    os.kill(os.getpid(), signal.SIGKILL)

summary.write_json = killed
tailbound.summarize(sys.argv[1], k=(7,))
"""


@pytest.mark.parametrize("when", ["between", "after"])
def test_a_kill_between_the_two_writes_loses_nothing(folder: Path, when: str) -> None:
    tailbound.summarize(folder, k=(3,))
    before = read_json(folder / "summary.json")
    child = subprocess.run([sys.executable, "-c", KILLED, str(folder), when], check=False)
    assert child.returncode == -9
    _, earlier, newest = read_history(folder)
    assert earlier.result == before
    assert newest.provenance.options["k"] == [7]
    plain = read_json(folder / "summary.json")
    assert plain == (before if when == "between" else newest.result)
    # the same command again puts it in place, and adds nothing
    tailbound.summarize(folder, k=(7,))
    assert read_json(folder / "summary.json") == newest.result
    assert len(names(folder)) == 3


def test_a_kill_before_the_first_write_leaves_the_old_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tailbound.summarize(folder, k=(3,))
    before = (folder / "summary.json").read_bytes()

    def full(path: Path, document: object, **options: object) -> None:
        raise LedgerError("no space")

    monkeypatch.setattr(history, "write_json", full)
    with pytest.raises(LedgerError, match="no space"):
        tailbound.summarize(folder, k=(7,))
    assert (folder / "summary.json").read_bytes() == before
    assert names(folder) == ["0001-risk.json", "0002-summary.json"]


def test_two_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    def keep(number: int) -> None:
        for each in range(5):
            document = {"from": number, "each": each}
            keep_result(tmp_path, f"{'ab'[number]}", document, before=lambda: None)

    threads = [threading.Thread(target=keep, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.number for one in read_history(tmp_path)] == list(range(1, 11))


def test_a_damaged_result_is_an_error_to_readers_and_no_obstacle_to_writers(folder: Path) -> None:
    path = folder / "results" / "0001-risk.json"
    path.write_bytes(path.read_bytes().replace(b'"number": 1', b'"number": 7'))
    with pytest.raises(LedgerError, match=r"0001-risk.json is damaged"):
        read_history(folder)
    tailbound.risk(PROMPTS, out=folder, progress=None, **{**SIZES, "draws": 40})
    assert names(folder) == ["0001-risk.json", "0002-risk.json"]
    (folder / "results" / "notes.txt").write_text("mine")
    with pytest.raises(LedgerError, match=r"notes.txt does not have the name"):
        read_history(folder)


def test_a_file_under_another_number_is_found(folder: Path) -> None:
    (folder / "results" / "0001-risk.json").rename(folder / "results" / "0003-risk.json")
    with pytest.raises(LedgerError, match=r"results/0001-risk\.json"):
        read_history(folder)


def test_verify_finds_a_changed_byte_a_removed_file_and_other_draws(folder: Path) -> None:
    tailbound.risk(PROMPTS, out=folder, progress=None, **{**SIZES, "draws": 40})
    tailbound.summarize(folder)
    assert tailbound.verify(folder, progress=None).matches
    path = folder / "results" / "0001-risk.json"
    whole = path.read_bytes()
    for place in (whole.index(b'"options"') + 1, whole.index(b'"prompts": ['), len(whole) - 5):
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(changed)
        wrong = [one.name for one in tailbound.verify(folder, progress=None).checks if one.wrong]
        assert wrong == ["results/0001-risk.json"]
    path.write_bytes(whole)
    path.rename(folder.parent / "elsewhere.json")
    wrong = [one for one in tailbound.verify(folder, progress=None).checks if one.wrong]
    assert [(one.name, one.outcome) for one in wrong] == [("results/0001-*.json", "missing")]


def test_verify_compares_the_newest_with_the_result_in_use(folder: Path) -> None:
    tailbound.summarize(folder, k=(3,))
    old = (folder / "summary.json").read_bytes()
    tailbound.summarize(folder, k=(4,))
    (folder / "summary.json").write_bytes(old)
    wrong = [one for one in tailbound.verify(folder, progress=None).checks if one.wrong]
    assert [one.name for one in wrong] == ["results/0003-summary.json"]


def test_verify_finds_draws_that_were_rewritten_since(folder: Path) -> None:
    """A shard that bears its checksum, and is not the one that the result was made from."""
    (shard,) = (folder / "draws").glob("*.parquet")
    of = read_identity(folder).digest
    frame = read_sealed(shard, of=of, cure="")
    write_sealed(shard, frame.with_columns(tokens=pl.col("tokens") + 0, run=pl.lit("x")), of=of)
    wrong = [one for one in tailbound.verify(folder, progress=None).checks if one.wrong]
    assert [one.name for one in wrong] == ["results/0001-risk.json (draws)"]


def test_the_digest_reads_footers_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a shard was read")

    monkeypatch.setattr(pl, "read_parquet", read)
    monkeypatch.setattr(pl, "scan_parquet", read)
    monkeypatch.setattr(Path, "read_bytes", read)
    assert seals_of(folder)["draws"].files == 1


def test_a_foreign_file_in_results_is_found_before_anything_is_drawn(folder: Path) -> None:
    (folder / "results" / "999999999-risk.json").write_text("{}")
    before = tailbound.load_run(folder).draws.height
    with pytest.raises(LedgerError, match="does not have the name of a file that tailbound writes"):
        tailbound.risk(PROMPTS, out=folder, progress=None, **{**SIZES, "draws": 40})
    assert tailbound.load_run(folder).draws.height == before
