"""The synthetic study at a small size: its statistics, its folder, and what it refuses."""

from __future__ import annotations

import statistics
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailbound
from interrupting import killed_at
from sizes import size
from tailbound.core import extras
from tailbound.errors import LedgerError
from tailbound.storage.documents import read_json
from tailbound.survival import geometric
from tailbound.workflows.reproduce.synthetic.results import SyntheticResult
from tailbound.workflows.reproduce.synthetic.settings import (
    METHODS,
    Cell,
    Method,
    SyntheticStudy,
)
from tailbound.workflows.reproduce.synthetic.trial import Trial

Cli = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"prompts_count": 2_000, "repeats": 2, "budget": (10, 60), "seed": 3}


def study(folder: Path, **options: Any) -> SyntheticResult:
    return tailbound.reproduce_synthetic(folder, **{**SMALL, **options}, progress=None)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "cells").iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SyntheticResult]:
    folder = tmp_path_factory.mktemp("studies") / "small"
    return folder, study(folder)


def test_a_study_writes_its_numbers_table_and_figures(made: tuple[Path, SyntheticResult]) -> None:
    folder, found = made
    document = read_json(folder / "study.json")
    assert document == found.to_dict()
    assert SyntheticResult.from_dict(document) == found
    text = (folder / "README.md").read_text()
    for name in ("coverage-against-budget.svg", "bound-against-draws.svg"):
        assert ElementTree.fromstring((folder / name).read_bytes()).tag.endswith("svg")
        assert f"]({name})" in text
    assert len(found.cells) == len(files(folder)) == 6 * 2 * 2
    assert [row.method for row in found.rows[::2]] == list(METHODS)
    assert found.frame().height == len(found.rows)
    for row in found.rows:
        assert f"| {row.method.name} | {row.budget} |" in text


def test_rows_are_means_and_deviations_of_their_cells(
    made: tuple[Path, SyntheticResult],
) -> None:
    _, found = made
    for row in found.rows:
        cells = [
            c
            for c in found.cells
            if (c.design, c.guarantee, c.budget) == (row.design, row.guarantee, row.budget)
        ]
        assert row.repeats == len(cells) == 2
        for name in ("coverage", "coverage_beyond", "mean_bound"):
            values = [getattr(cell, name) for cell in cells]
            assert getattr(row, name) == pytest.approx(statistics.mean(values))
            assert getattr(row, f"{name}_sd") == pytest.approx(statistics.stdev(values))
        assert row.coverage_beyond < row.coverage
        assert row.median_bound <= row.mean_bound
        planned = row.budget if row.design in ("naive", "optimized") else 1.05 * row.budget
        assert row.planned <= planned * 1.001


def test_coverage_is_that_of_simulated_times() -> None:
    """Against 2,000 times for each of 200 test prompts: standard error below .0008; 5 of them."""
    trial = Trial.make(2_000, seed=0, repeat=1)
    times = np.random.default_rng(1).geometric(trial.test_risks, size=(2_000, 200))
    for method in METHODS:
        cell = Cell(method=method, budget=60, repeat=1)
        found = trial.calibrate(cell, alpha=0.1, seed=0)
        bounds = geometric.quantile(trial.test_p_hat, found.level)
        capped = found.share_at_cap > 0
        if not capped:
            assert found.mean_bound == bounds.mean()
            assert (times >= bounds).mean() == pytest.approx(found.coverage, abs=0.004)
            assert (times > bounds).mean() == pytest.approx(found.coverage_beyond, abs=0.004)


def test_the_predictor_tells_prompts_apart() -> None:
    """With 20,000 prompts, a fifth of the published number of steps."""
    trial = Trial.make(20_000, seed=0, repeat=1)
    order = np.argsort(trial.test_p_hat)
    safest, riskiest = order[:200], order[-200:]
    assert np.median(trial.test_risks[safest]) < 2e-4 < np.median(trial.test_risks[riskiest])


def test_a_complete_study_computes_nothing_again(
    made: tuple[Path, SyntheticResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = made
    figures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    before = files(folder)
    monkeypatch.setattr(Trial, "make", None)
    assert study(folder) == found
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == figures
    part = study(folder, repeats=1, design="trimmed", budget=(60,))
    assert [(cell.design, cell.repeat) for cell in part.cells] == [("trimmed", 1)]
    assert part.rows[0].coverage_sd is None
    assert files(folder) == before


def test_an_interrupted_study_resumes_and_may_be_extended(
    made: tuple[Path, SyntheticResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, found = made
    folder = tmp_path / "cut"
    killed_at(monkeypatch, Trial, "calibrate", 8, lambda: study(folder, budget=(10,)))
    assert not (folder / "study.json").exists()
    assert len(files(folder)) == 7
    calls: list[str] = []
    original = Trial.calibrate

    def counted(self: Trial, cell: Cell, **options: Any) -> Any:
        calls.append(cell.name)
        return original(self, cell, **options)

    monkeypatch.setattr(Trial, "calibrate", counted)
    study(folder, budget=(10,))
    assert len(calls) == 12 - 7
    assert study(folder).to_dict() == found.to_dict()
    assert len(calls) == 24 - 7
    assert files(folder) == files(whole)


def test_a_damaged_cell_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    asked = {"repeats": 1, "budget": (10,), "design": ("trimmed", "basic")}
    study(folder, **asked)
    one, other = sorted((folder / "cells").iterdir())
    text = one.read_text()
    one.write_text(text.replace("0", "1", 1))
    with pytest.raises(LedgerError, match="is damaged"):
        study(folder, **asked)
    one.write_bytes(other.read_bytes())
    with pytest.raises(LedgerError, match="another cell than its name says"):
        study(folder, **asked)
    one.unlink()
    study(folder, **asked)
    assert one.read_text() == text


def test_another_study_in_the_same_folder_is_refused(
    cli: Cli, made: tuple[Path, SyntheticResult], tmp_path: Path
) -> None:
    folder, _ = made
    asked = ("reproduce", "synthetic", "--out", folder, "--prompts-count", 2000)
    for options, message in (
        (("--seed", 4), "holds a study with seed 3, not 4"),
        (("--seed", 3, "--alpha", 0.2), "holds a study with alpha 0.1, not 0.2"),
    ):
        code, out, err = cli(*asked, *options)
        assert (code, out) == (2, "")
        assert message in err
    code, _, err = cli("reproduce", "mc-vs-is", "--out", folder, "--quick")
    assert code == 2
    assert "holds a study with study 'synthetic', not 'mc-vs-is'" in err
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = cli("reproduce", "synthetic", "--out", tmp_path)
    assert code == 2
    assert "holds other files and no study" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "10,10"], "--budget must be distinct numbers of at least 2"),
        (["--budget", "1"], "--budget must be distinct numbers of at least 2"),
        (["--budget", "ten"], "--budget takes whole numbers"),
        (["--repeats", 0], "--repeats must be at least 1"),
        (["--prompts-count", 499], "--prompts-count must be at least 500 at alpha = 0.1"),
        (["--alpha", 0.01, "--quick", "--prompts-count", 4999], "must be at least 5,000"),
        (["--alpha", 1], "--alpha must lie strictly between 0 and 1"),
        (["--design", "magic"], "--design takes naive, basic, trimmed, optimized, balanced"),
        (["--design", "naive", "--design", "naive"], "each at most once"),
        (["--seed", -1], "--seed must not be negative"),
        (["--target", "demo"], "No such option"),
        (["--max-weight", 2], "No such option"),
    ],
)
def test_a_wrong_study_is_one_line(
    cli: Cli, tmp_path: Path, options: list[Any], message: str
) -> None:
    code, out, err = cli("reproduce", "synthetic", "--out", tmp_path / "study", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("tailbound: error:") == 1
    assert not (tmp_path / "study").exists()


def test_what_is_not_installed_is_one_line(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in ("plot", "hf"):
        with monkeypatch.context() as patch:
            patch.setitem(extras.MODULES, extra, ("no_such_module",))
            code, _, err = cli("reproduce", "synthetic", "--quick", "--out", tmp_path / "study")
        assert code == 2
        assert f"pip install 'tailbound[{extra}]'" in err
        assert not (tmp_path / "study").exists()


def test_quick_lowers_what_is_not_set() -> None:
    quick = SyntheticStudy(quick=True)
    assert (quick.budgets, quick.rounds, quick.size) == ((10, 1120), 2, 20_000)
    asked = SyntheticStudy(quick=True, budget=(30, 20), repeats=4, prompts_count=3_000)
    assert (asked.budgets, asked.rounds, asked.size) == ((20, 30), 4, 3_000)
    assert len(list(SyntheticStudy().cells(1))) == 6 * 4


def test_the_table_is_printed(cli: Cli, tmp_path: Path) -> None:
    asked = ("--prompts-count", 600, "--repeats", 1, "--budget", 10, "--design", "trimmed")
    code, out, err = cli("reproduce", "synthetic", "--out", tmp_path / "study", *asked)
    assert code == 0, err
    assert "trimmed" in out
    assert "bounds at coverage 0.9" in out


@pytest.mark.slow
def test_guarantees_hold_and_the_naive_design_has_none() -> None:
    """Mean coverage over repeats, against four standard errors of it: one false alarm in 30,000.

    `marginal` is at least .9, `plug-in` about; the naive design, whose weights have no bound, is
    far below at a budget of 10. Each repeat takes 4 CPU-seconds.
    """
    repeats = size(8, 60)
    found: dict[Method, list[float]] = {method: [] for method in METHODS}
    for repeat in range(1, repeats + 1):
        trial = Trial.make(20_000, seed=0, repeat=repeat)
        for method in METHODS:
            cell = Cell(method=method, budget=10, repeat=repeat)
            found[method].append(trial.calibrate(cell, alpha=0.1, seed=0).coverage)
    for method, values in found.items():
        mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(repeats)
        if method.design == "naive":
            assert mean + 4 * error < 0.9
        elif method.guarantee == "marginal":
            assert mean + 4 * error > 0.9
            assert mean < 0.92
        elif method.design != "basic":  # its weights are not bounded either
            assert abs(mean - 0.9) < 4 * error + 0.005
