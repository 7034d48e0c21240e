"""Rates, upper and two-sided bounds of a run: in its result, for new prompts, and proved again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

import tailbound
from tailbound.errors import UsageError
from tailbound.storage.files import write_json
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import BoundResult
from tailbound.workflows.bound.curve import CALIBRATION, TRAINING
from tailbound.workflows.bound.results import read_result

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
N = 400


def risks() -> dict[str, float]:
    values = 10 ** np.random.default_rng(0).uniform(-4, -0.3, N)
    return {f"q{i}": float(value) for i, value in enumerate(values)}


def records(*, p_hat: bool) -> list[dict[str, object]]:
    return [
        {"id": name, "prompt": f"question {name}", **({"p_hat": risk} if p_hat else {})}
        for name, risk in risks().items()
    ]


def make(folder: Path, *, p_hat: bool, judge: WordJudge | None = None, **options) -> BoundResult:
    given = {"budget": 30, "train_draws": 60, "test_draws": 100, "progress": None, "seed": 3}
    return tailbound.bound(
        records(p_hat=p_hat),
        out=folder,
        target=KnownRiskTarget(risks()),
        judge=judge or WordJudge(),
        **{**given, **options},
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoundResult]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, make(folder, p_hat=False, within=(5, 60, 500))


@pytest.fixture(scope="module")
def supplied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoundResult]:
    folder = tmp_path_factory.mktemp("supplied") / "run"
    return folder, make(folder, p_hat=True, coverage_by="p_hat:2")


def test_rates_come_from_the_training_draws(trained):
    _, result = trained
    rates = result.curve.rates
    assert (result.curve.source, rates.identified_to) == (TRAINING, 60)
    p = np.array(list(risks().values()))
    for one in rates.within:
        truth = 1 - ((1 - p) ** one.draws).mean()
        assert one.interval[0] <= truth <= one.interval[1]
        assert (one.lower == one.upper) == (one.draws <= 60)
    assert [one.draws for one in rates.within] == [5, 60, 500]
    band = {one.draws: one.interval for one in rates.survival}
    assert all(low <= ((1 - p) ** t).mean() <= high for t, (low, high) in band.items())


def test_without_training_draws_they_come_from_the_calibration(supplied):
    _, result = supplied
    assert result.curve.source == CALIBRATION
    assert result.curve.upper is None
    assert result.curve.bounded == 0
    p = np.array(list(risks().values()))
    for one in result.curve.rates.within:
        assert one.interval[0] <= 1 - ((1 - p) ** one.draws).mean() <= one.interval[1]
    assert result.curve.two_sided.lower.groups is not None


@pytest.mark.parametrize("name", ["trained", "supplied"])
def test_it_is_written_down_and_verified(name, request, tmp_path):
    folder, result = request.getfixturevalue(name)
    assert read_result(folder) == result
    assert BoundResult.from_json(result.to_json()) == result
    document = json.loads((folder / "bound.json").read_text())
    schema = json.loads((SCHEMAS / "bound.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(document))
    found = tailbound.verify(folder, progress=None)
    assert [check.name for check in found.checks if check.wrong] == []
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    del document["checksum"]
    document["curve"]["rates"]["within"][0]["lower"] += 1e-3
    write_json(copy / "bound.json", document)
    checks = [check for check in tailbound.verify(copy, progress=None).checks if check.wrong]
    (wrong,) = [check for check in checks if "results/" not in check.name]
    assert [one.place for one in wrong.differences] == ["curve.rates.within[0].lower"]


def test_a_missing_verdict_is_a_bracket_and_makes_no_upper_bound_shorter(tmp_path, trained):
    silent = frozenset(f"q{i}" for i in range(0, N, 8))
    judge = WordJudge(missing_ids=silent)
    result = make(tmp_path / "run", p_hat=False, judge=judge, allow_missing=True)
    first = result.curve.rates.within[0]
    assert first.lower < first.upper
    assert result.curve.rates.identified_to == 0


def test_new_prompts_have_upper_bounds_where_they_are_risky(trained):
    folder, result = trained
    target = KnownRiskTarget(risks())
    found = tailbound.predict(folder, records(p_hat=False), target=target, progress=None)
    upper = result.curve.upper
    p = np.array(list(risks().values()))
    for one in found:
        limit = upper.predict([one.p_hat])[0]
        assert one.upper_bound == (None if np.isinf(limit) else limit)
        low, high = one.two_sided
        assert low <= one.lower_bound
        assert high is None or (one.upper_bound is not None and high >= one.upper_bound)
    limits = np.array([one.upper_bound or np.inf for one in found])
    inside = np.isfinite(limits)
    assert 0.05 < inside.mean() < 0.6
    assert (1 - (1 - p[inside]) ** limits[inside]).mean() > 0.85
    schema = json.loads((SCHEMAS / "output-predict.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(json.loads(found.to_json())))
    assert found.frame()["upper_bound"].dtype == pl.Int64
    assert type(found).from_json(found.to_json()).bounds == found.bounds


def test_the_naive_design_has_no_curve_of_weights(tmp_path):
    assert make(tmp_path / "run", p_hat=True, design="naive", guarantee="plug-in").curve is None


def test_it_fits_a_terminal_of_80_columns(trained, capsys, monkeypatch):
    from tailbound.cli.render import bound as render

    monkeypatch.setenv("COLUMNS", "80")
    render.bound(trained[1], subject="known")
    out = capsys.readouterr().out
    for words in ("upper bound", "unsafe within", "one find"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("within", [(), (0,)])
def test_numbers_of_draws_that_mean_nothing_are_refused(tmp_path, within):
    with pytest.raises(UsageError, match="--within must"):
        make(tmp_path / "run", p_hat=True, within=within)
