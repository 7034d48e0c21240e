"""What `tailbound view` shows of runs that are begun, half made, damaged, stopped or finished."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import tailbound
from tailbound.runs import totals
from tailbound.runs.lock import FolderLock, writer
from tailbound.workflows.report import html as rendering
from tailbound.workflows.view import live, progress
from tailbound.workflows.view.live import LiveReport
from tailbound.workflows.view.progress import Watched


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(when: Path, tmp_path: Path) -> Path:
    """A copy of a finished run."""
    return Path(shutil.copytree(when, tmp_path / "run"))


@pytest.fixture
def half(run: Path) -> Path:
    """The same before its bound was made, with half of its draws."""
    for name in ("bound.json", "evaluation.json", "predictions.parquet"):
        (run / name).unlink()
    shutil.rmtree(run / "results")
    return run


def test_a_finished_run_is_its_report_and_asks_no_more(run: Path) -> None:
    report = LiveReport([run], show_unsafe=False)
    status = report.status()
    assert status["finished"]
    page = report.page().decode()
    assert 'id="live"' in page
    assert "connect-src 'self'" in page
    assert 'id="progress"' not in page
    assert status["page"] in page
    held = totals(run)
    every = sum(one.draws for one in held.values())
    assert f"run: finished; {every:,} draws on record" in status["lines"][0]


def test_a_half_run_says_what_there_is_and_what_is_missing(half: Path) -> None:
    report = LiveReport([half], show_unsafe=False)
    page = report.page().decode()
    assert not report.status()["finished"]
    assert 'id="progress"' in page
    assert "no bound in use: the run is not finished" in page
    assert "No process is seen to be writing" in page
    assert "To continue:" in page
    assert "prompts begun (of 160 prompts)" in page
    lock = FolderLock(half)
    try:
        again = LiveReport([half], show_unsafe=False)
        assert again.status()["lines"][0].startswith("run: running; ")
        assert "this page follows it" in again.page().decode()
        assert "To continue:" not in again.page().decode()
    finally:
        lock.release()


def test_counts_are_those_of_the_ledger_whenever_they_are_made(run: Path, tmp_path: Path) -> None:
    shards = sorted((run / "draws").iterdir())
    threshold = float(tailbound.load_run(run).manifest["threshold"])
    draws = tailbound.load_run(run).draws
    parts = [
        draws[start : start + draws.height // 3 + 1]
        for start in range(0, draws.height, draws.height // 3 + 1)
    ]
    for shard in shards:
        shard.unlink()
    watched = Watched(run)
    assert watched.look().draws == 0
    for number, part in enumerate(parts, start=1):
        part.write_parquet(run / "draws" / f"part-{number:06d}.parquet")
        seen = pl.concat(parts[:number])
        look = watched.look()
        assert look.draws == seen.height
        for name, one in look.streams.items():
            mine = seen.filter(pl.col("stream") == name)
            assert one.draws == mine.height
            assert one.unsafe == mine.filter(pl.col("score") >= threshold).height
            assert one.missing == mine["score"].null_count()
            assert one.tokens == mine["tokens"].sum()
            assert one.prompts == set(mine["prompt_id"])
    # draws that are taken away again are not counted on
    (run / "draws" / "part-000001.parquet").unlink()
    assert watched.look().draws == sum(part.height for part in parts[1:])


def test_a_look_reads_no_shard_twice_and_a_page_is_kept_while_nothing_changes(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    made: list[str] = []
    add, html = progress._add, rendering.html
    monkeypatch.setattr(
        progress, "_add", lambda streams, path, of: (read.append(path.name), add(streams, path, of))
    )
    monkeypatch.setattr(live, "html", lambda page, **more: (made.append(""), html(page, **more))[1])
    clock = Clock()
    report = LiveReport([half], show_unsafe=False, clock=clock)
    for _ in range(5):
        clock.now += 10
        report.status()
        report.page()
    assert len(read) == len(set(read)) == len(list((half / "draws").iterdir()))
    assert len(made) == 1
    # what `report` writes is no news, a file of the run is
    (half / "report.html").write_text("x")
    clock.now += 10
    report.page()
    assert len(made) == 1
    (half / "spend.json").touch()
    clock.now += 10
    report.page()
    assert len(made) == 2
    assert len(read) == len(set(read))


def test_a_page_that_takes_long_is_made_less_often(
    half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    html = rendering.html

    def slow(*given: object, **more: object) -> str:
        clock.now += 3
        return html(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "html", slow)
    report = LiveReport([half], show_unsafe=False, clock=clock)
    first = report.page()
    (half / "spend.json").touch()
    clock.now += 3 * live.REST - 0.1
    assert report.status()["page"] in first.decode()
    assert report.page() is first
    clock.now += 0.2
    assert report.status()["page"] not in first.decode()
    assert report.page() is not first


def _no_manifest(folder: Path) -> None:
    (folder / "run.yaml").unlink()


def _damaged_shard(folder: Path) -> None:
    shard = sorted((folder / "draws").iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:-20])


def _damaged_result(folder: Path) -> None:
    (folder / "bound.json").write_text("{<script>")


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _no_draws(folder: Path) -> None:
    shutil.rmtree(folder / "draws")


def _damaged_prompts(folder: Path) -> None:
    (folder / "prompts.parquet").write_bytes(b"x")


def _foreign_file(folder: Path) -> None:
    (folder / "draws" / "<b>other.parquet").write_bytes(b"x")


@pytest.mark.parametrize(
    "harm",
    [
        *(_no_manifest, _damaged_shard, _damaged_result, _no_folder, _no_draws),
        *(_damaged_prompts, _foreign_file),
    ],
)
def test_whatever_is_wrong_with_a_folder_is_on_the_page_beside_the_others(
    run: Path, when: Path, harm: Callable[[Path], None]
) -> None:
    report = LiveReport([run, when], show_unsafe=True)
    assert "Run run" in report.page().decode()
    harm(run)
    again = LiveReport([run, when], show_unsafe=True)
    page = again.page().decode()
    assert 'id="progress"' in page
    assert "<b>other" not in page
    assert "{<script>" not in page
    assert f"Run {when.name}" in page
    assert len(again.status()["lines"]) == 2
    # alone as well
    assert "How rarely it misbehaves" in LiveReport([run], show_unsafe=True).page().decode()


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    lock = FolderLock(tmp_path / "new")
    try:
        report = LiveReport([tmp_path / "new"], show_unsafe=False)
        page = report.page().decode()
        assert report.status()["lines"][0].startswith("new: running; ")
        assert "there is nothing that can be read" in page
    finally:
        lock.release()


def test_looking_takes_no_lock_and_sees_whose_it_is(when: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(when, tmp_path / "run"))
    assert writer(folder) is None
    lock = FolderLock(folder)
    assert writer(folder) is not None
    lock.release()
    assert writer(folder) is None


def test_more_draws_than_the_result_counts_are_not_finished(run: Path) -> None:
    shards = sorted((run / "draws").iterdir())
    more = run / "draws" / f"part-{len(shards) + 1:06d}.parquet"
    shutil.copy(shards[0], more)
    status = LiveReport([run], show_unsafe=False).status()
    assert not status["finished"]
    assert status["lines"][0].startswith("run: stopped; ")
