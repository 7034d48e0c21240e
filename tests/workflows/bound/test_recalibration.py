"""p_hat of the user's own, recalibrated on counts: what it changes, and what it may not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import tailbound
from tailbound.cli import main
from tailbound.errors import UsageError
from tailbound.prompts import PromptSet
from tailbound.workflows.bound import BoundSettings, divide
from tailbound.workflows.bound.recalibration import recalibration_of
from tailbound.workflows.table.job import divide_table, recalibration_by, run_table
from tailbound.workflows.table.reading import TimeTable, table_of
from tailbound.workflows.table.settings import TableOptions


def risks(n: int, rng: np.random.Generator) -> np.ndarray:
    return 10 ** rng.uniform(-3.5, -0.7, n)


def too_close(p: np.ndarray) -> np.ndarray:
    """Predictions that rank perfectly and are shrunk towards one another: 1e-4 becomes 5e-3."""
    return np.asarray(0.5 * np.sqrt(p))


def table(n: int, rng: np.random.Generator, p_hat: np.ndarray | None = None) -> TimeTable:
    """Complete times, up to 5,000 draws, of units with risks of 3e-4 to .2."""
    p = risks(n, rng)
    time = rng.geometric(p)
    rows = [
        {
            "id": f"u{i}",
            "time": int(min(time[i], 5000)),
            "event": bool(time[i] <= 5000),
            "p_hat": float(too_close(p)[i] if p_hat is None else p_hat[i]),
        }
        for i in range(n)
    ]
    return table_of(rows)


@pytest.mark.parametrize("guarantee", ["marginal", "plug-in", "pac"])
def test_bounds_are_longer_where_they_were_too_alike(guarantee: str, tmp_path: Path) -> None:
    """Not a statement about one table: the medians of 10 tables are compared."""
    medians: dict[str, list[float]] = {"off": [], "auto": []}
    for seed in range(10):
        given = table(1500, np.random.default_rng(seed))
        for how, found in medians.items():
            options = TableOptions(budget=20, guarantee=guarantee, recalibrate=how, seed=seed)  # type: ignore[arg-type]
            folder = tmp_path / f"{how}{seed}"
            folder.mkdir()
            result = run_table(given, divide_table(given, options), options, folder)
            found.append(result.median_bound)
            assert (result.recalibration is None) == (how == "off")
            if how == "auto":
                ends = result.recalibration(np.array(too_close(np.array([3e-3, 1e-1]))))  # type: ignore[misc]
                np.testing.assert_array_less(np.abs(np.log(ends / [3e-3, 1e-1])), np.log(2.5))
    assert np.median(medians["auto"]) > 1.2 * np.median(medians["off"])


def test_a_saved_run_predicts_with_the_recalibration_and_verifies(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    given = table(900, rng)
    run = tmp_path / "run"
    made = tailbound.bound_table(given.frame().to_dicts(), out=run, budget=20, progress=None)
    assert made.recalibration is not None
    assert made.recalibration.units == len(divide_table(given, TableOptions(budget=20)).train)
    new = [{"p_hat": p} for p in (0.01, 0.05, 0.2)]
    found = tailbound.predict(run, new)
    mapped = made.recalibration(np.array([0.01, 0.05, 0.2]))
    np.testing.assert_allclose([one.p_hat for one in found], mapped)
    assert [one.lower_bound for one in found] == made.bound.predict(mapped).tolist()
    assert tailbound.verify(run, progress=None).matches
    document = json.loads((run / "bound.json").read_text())
    del document["checksum"]
    document["recalibration"]["slope"] *= 2
    (run / "bound.json").write_text(json.dumps(document))
    wrong = [one.name for one in tailbound.verify(run, progress=None).checks if one.wrong]
    assert "bound.json" in wrong


@pytest.mark.slow
def test_coverage_holds_also_where_p_hat_was_fitted_on_the_training_units() -> None:
    """300 tables; p_hat has seen which training units had their event early.

    The recalibration then corrects nothing that is wrong elsewhere, and may be steep and wrong; a
    false alarm at 3.5 standard errors comes once in 4,000 runs.
    """
    covered = []
    for seed in range(300):
        rng = np.random.default_rng(1000 + seed)
        given = table(400, rng)
        options = TableOptions(budget=20, seed=seed)
        parts = divide_table(given, options)
        assert given.p_hat is not None
        assert given.time is not None
        known = given.p_hat.copy()
        known[parts.train] = np.clip(1 / given.time[parts.train], 1e-6, 0.9)
        given = given.recalibrated(lambda _, known=known: known)  # type: ignore[misc]
        made = recalibration_by(given.take(parts.train), options)
        assert made is not None
        changed = given.recalibrated(made)
        from tailbound.survival import calibrate
        from tailbound.workflows.table.job import _Follow

        calibration = changed.take(parts.calibration)
        bound = calibrate(
            *(calibration.predicted, _Follow(calibration)),
            budget=20,
            guarantee="marginal",
            reference_p_hat=changed.take(parts.train).predicted,
            max_follow_up=parts.follow_up,
            rng=seed,
        )
        truth = risks(4000, rng)
        limits = bound.predict(made(too_close(truth)))
        covered.append(float(((1 - truth) ** (limits - 1)).mean()))
    error = 3.5 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= 0.9 - error
    assert np.std(covered) > 0.005  # they do differ


def test_too_little_to_go_by_leaves_p_hat_as_it_is() -> None:
    p, none = np.full(20, 0.1), np.zeros(20, dtype=np.int64)
    assert recalibration_of(p, none, none + 5) is None
    assert recalibration_of(p[:9], none[:9] + 1, none[:9] + 5) is None
    assert recalibration_of(p, none + 1, none + 5) is not None


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Prompts of the demo, with p_hat that are all alike but for a little."""
    assert command(tmp_path, "demo", "--prompts", tmp_path / "all.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()][:200]
    rng = np.random.default_rng(3)
    lines = [
        json.dumps({**row, "p_hat": float(p)})
        for row, p in zip(rows, rng.uniform(0.004, 0.006, len(rows)), strict=True)
    ]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    return tmp_path / "prompts.jsonl"


def command(folder: Path, *words: object) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["tailbound", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0


def test_prompts_are_drawn_for_it_when_asked(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--budget", 10, "--test-draws", 20, "--train-draws", 30, "--recalibrate", "on")
    run = tmp_path / "run"
    assert command(tmp_path, "bound", prompts, "--out", run, *options) in (0, 3)
    said = capsys.readouterr().out
    assert "recalibrated on 60 training prompts" in " ".join(said.split())
    found = tailbound.load_run(run).bound
    assert found is not None
    assert found.predictor is None
    made = found.recalibration
    assert made is not None
    assert (made.units, made.draws) == (60, 60 * 30)
    kept = pl.read_parquet(run / "p_hat.parquet")
    np.testing.assert_allclose(made(kept["given"].to_numpy()), kept["p_hat"].to_numpy())
    # rates differ a thousandfold and p_hat do not: what p_hat ranks by chance is pulled together
    assert kept["p_hat"].mean() != pytest.approx(0.005, rel=0.1)
    one = tailbound.predict(run, prompts)[0]
    given = json.loads(prompts.read_text().splitlines()[0])["p_hat"]
    assert one.p_hat == pytest.approx(float(made(np.array([given]))[0]))
    checked = tailbound.verify(run, progress=None)
    assert checked.matches, [check for check in checked.checks if check.wrong]


def test_it_is_refused_where_there_is_nothing_to_recalibrate(
    prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = PromptSet(prompts=(), field="prompt", source="mine.jsonl")
    with pytest.raises(UsageError, match="--recalibrate is for p_hat of your own, and mine"):
        divide(alone, BoundSettings(budget=5, recalibrate="on"))
    table_file = tmp_path / "t.csv"
    pl.DataFrame({"time": [3] * 60, "event": [0] * 60, "p_hat": [0.1] * 60}).write_csv(table_file)
    capsys.readouterr()
    words = ("bound", "--from-table", table_file, "--out", tmp_path / "t", "--recalibrate", "on")
    assert command(tmp_path, *words) == 2
    said = capsys.readouterr().err
    assert "--recalibrate on needs p_hat, and at least 10 training units with an event" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "t" / "bound.json").exists()
