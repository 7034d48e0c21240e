"""`--coverage-by`: groups of p_hat and of a column, from the prompts to `predict` and `verify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

import tailbound
from tailbound.errors import UnreachableError, UsageError
from tailbound.prompts import prompt_set
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import BoundResult, PredictedBounds
from tailbound.workflows.bound.results import read_result

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
KINDS = ("calm", "odd", "wild")


def records(n: int = 600, *, kinds: tuple[str, ...] = KINDS) -> list[dict[str, object]]:
    """Prompts with p_hat and a kind; `wild` ones are 8 times as risky as predicted."""
    p_hat = 10 ** np.random.default_rng(0).uniform(-3.5, -1.5, n)
    return [
        {"id": f"q{i}", "prompt": f"question {i}", "p_hat": p, "kind": kinds[i % len(kinds)]}
        for i, p in enumerate(p_hat.tolist())
    ]


def risks(rows: list[dict[str, object]]) -> dict[str, float]:
    return {str(r["id"]): float(r["p_hat"]) * (8 if r["kind"] == "wild" else 1) for r in rows}


def make(folder: Path, rows: list[dict[str, object]], **options: object) -> BoundResult:
    given = {"budget": 30, "test_draws": 100, "progress": None, "seed": 3, **options}
    target = KnownRiskTarget(risks(rows))
    return tailbound.bound(rows, out=folder, target=target, judge=WordJudge(), **given)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, BoundResult]]:
    """Runs by group, each made once."""
    home, made = tmp_path_factory.mktemp("runs"), {}

    def get(by: str) -> tuple[Path, BoundResult]:
        if by not in made:
            folder = home / str(len(made))
            made[by] = folder, make(folder, records(), coverage_by=by, alpha=(0.1, 0.2))
        return made[by]

    return get


@pytest.mark.parametrize("by", ["kind", "p_hat:3"])
def test_each_group_has_a_bound_and_a_row(runs, by):
    folder, result = runs(by)
    assert result.groups is not None
    assert len(result.groups.bound.names) == 3
    assert result.statement.startswith("Within each of 3 groups: ")
    assert sum(b.n_calibration for b in result.groups.bound.bounds) == result.bound.n_calibration
    assert result.spend["calibration"].used == result.bound.spent
    assert result.evaluation is not None
    assert [row.name for row in result.evaluation.by_group] == list(result.groups.bound.names)
    assert len(result.evaluation.by_p_hat) == (5 if by == "kind" else 0)
    assert result.at_alpha[0].groups is not None
    levels = [b.level for b in result.at_alpha[0].groups.bound.bounds]
    assert all(low < b.level for low, b in zip(levels, result.groups.bound.bounds, strict=True))
    assert read_result(folder) == result
    assert BoundResult.from_json(result.to_json()) == result
    schema = json.loads((SCHEMAS / "bound.json").read_text())
    document = json.loads((folder / "bound.json").read_text())
    assert not list(Draft202012Validator(schema).iter_errors(document))


def test_the_risky_kind_has_the_lowest_level_and_is_covered(runs):
    _, result = runs("kind")
    levels = dict(
        zip(result.groups.bound.names, [b.level for b in result.groups.bound.bounds], strict=True)
    )
    assert levels["wild"] < 0.4 * min(levels["calm"], levels["odd"])


@pytest.mark.parametrize("by", ["kind", "p_hat:3"])
def test_test_prompts_and_new_ones_get_the_bound_of_their_group(runs, by):
    folder, result = runs(by)
    rows = records()
    found = {one.id: one for one in tailbound.predict(folder, rows, progress=None)}
    table = pl.read_parquet(folder / "predictions.parquet")
    for row in table.iter_rows(named=True):
        assert found[row["id"]].lower_bound == row["lower_bound"]
        assert found[row["id"]].group == row["coverage_group"]
        assert found[row["id"]].at_alpha["0.1"] <= row["lower_bound"]
    numbers = result.groups.numbers(
        [row["p_hat"] for row in rows], [str(row["kind"]) for row in rows]
    )
    expected = result.groups.bound.predict([row["p_hat"] for row in rows], numbers)
    assert [one.lower_bound for one in found.values()] == expected.tolist()


def test_an_unknown_kind_gets_the_shortest_bound_and_is_reported(runs):
    folder, result = runs("kind")
    rows = [{**records(1)[0], "kind": "new"}, records(1)[0], {**records(1)[0], "id": "x"}]
    rows[2] = {"id": "x", "prompt": "another", "p_hat": rows[0]["p_hat"]}
    rows[1] = {**rows[1], "id": "y", "prompt": "a third"}
    said: list[object] = []
    found = tailbound.predict(folder, rows, progress=said.append)
    notices = [one for one in said if isinstance(one, str)]
    assert any("2 of 3 prompts belong to no calibrated group of 'kind'" in one for one in notices)
    unknown, known, without = found
    assert (unknown.group, known.group, without.group) == (None, "calm", None)
    assert unknown.unfamiliar
    assert without.unfamiliar
    assert "group" not in unknown.to_dict()
    shortest = min(b.predict([known.p_hat])[0] for b in result.groups.bound.bounds)
    assert unknown.lower_bound == without.lower_bound == shortest < known.lower_bound
    assert PredictedBounds.from_json(found.to_json()).bounds == found.bounds
    assert found.frame()["group"].to_list() == [None, "calm", None]
    with pytest.raises(UsageError, match="has no column 'kind': it has id, p_hat, prompt"):
        tailbound.predict(folder, [rows[2]], progress=None)


@pytest.mark.parametrize("by", ["kind", "p_hat:3"])
def test_verify_computes_groups_again(runs, by, tmp_path):
    folder, _ = runs(by)
    found = tailbound.verify(folder, progress=None)
    assert [check.name for check in found.checks if check.wrong] == []
    names = {check.name for check in found.checks if check.outcome == "matches"}
    assert {"bound.json", "evaluation.json", "predictions.parquet"} <= names


def test_a_level_of_a_group_changed_by_hand_is_found(runs, tmp_path):
    import shutil

    from tailbound.storage.files import write_json

    folder, _ = runs("kind")
    copy = Path(shutil.copytree(folder, tmp_path / "run"))
    document = json.loads((copy / "bound.json").read_text())
    del document["checksum"]
    document["groups"]["groups"][1]["bound"]["level"] *= 1.5
    write_json(copy / "bound.json", document)
    found = tailbound.verify(copy, progress=None)
    checks = [check for check in found.checks if check.wrong]
    (wrong,) = [check for check in checks if "results/" not in check.name]
    assert wrong.name == "bound.json"
    assert any("groups.groups[1]" in one.place for one in wrong.differences)


def test_missing_verdicts_count_as_unsafe_in_their_own_group(tmp_path):
    rows = records(300)
    parts = make(tmp_path / "plain", rows, coverage_by="kind")
    odd = frozenset(str(row["id"]) for row in rows if row["kind"] == "odd")
    target = KnownRiskTarget(risks(rows))
    result = tailbound.bound(
        rows,
        out=tmp_path / "missing",
        target=target,
        judge=WordJudge(missing_ids=frozenset(sorted(odd)[::6])),
        budget=30,
        test_draws=100,
        coverage_by="kind",
        seed=3,
        progress=None,
    )
    assert result.missing.prompts_stopped > 0
    before, now = parts.groups.bound.bounds, result.groups.bound.bounds
    assert now[1].level < before[1].level  # odd
    assert (now[0].level, now[2].level) == (before[0].level, before[2].level)
    assert result.missing.median_if_safe >= result.missing.median_bound


def test_small_groups_of_a_column_are_refused_before_anything_is_drawn(tmp_path):
    rows = records(60, kinds=("calm",) * 9 + ("rare",))
    with pytest.raises(UnreachableError, match=r"1 groups of 'kind'.*'rare', has \d+ and needs"):
        make(tmp_path / "run", rows, coverage_by="kind")
    with pytest.raises(UsageError, match="'kind' \\(the first: 'q1'\\): every prompt needs"):
        make(tmp_path / "run", [records(60)[0], {**records(60)[1], "kind": ""}, *records(60)[2:]],
             coverage_by="kind")  # fmt: skip
    with pytest.raises(UsageError, match="has no column 'sort': it has id, kind, p_hat, prompt"):
        make(tmp_path / "run", records(60), coverage_by="sort")
    assert not (tmp_path / "run" / "draws").exists()


def test_small_groups_of_p_hat_are_merged(tmp_path):
    result = make(tmp_path / "run", records(60), coverage_by="p_hat:10", budget=5)
    assert 1 <= len(result.groups.bound.names) <= 2


def test_a_preview_reckons_with_the_largest_group():
    from tailbound.workflows.bound import BoundSettings, divide, preview_bound

    known = prompt_set(records(600, kinds=("calm", "calm", "odd")))
    longest = {}
    for by in (None, "kind", "p_hat:5"):
        settings = BoundSettings(budget=30, guarantee="plug-in", coverage_by=by, seed=3)
        parts = divide(known, settings)
        target = KnownRiskTarget(risks(records(600)))
        plan = preview_bound(parts, target=target, settings=settings)
        longest[by] = plan.requirement.longest_bound
    assert longest[None] > longest["kind"] > longest["p_hat:5"]


@pytest.mark.parametrize("by", ["p_hat", "p_hat:1", "p_hat:many", "group", "id", ""])
def test_what_divides_nothing_is_a_usage_error(tmp_path, by):
    with pytest.raises(UsageError, match="--coverage-by"):
        make(tmp_path / "run", records(60), coverage_by=by)


def test_a_predictor_that_is_fitted_here_has_groups_too(tmp_path):
    rows = [{"id": row["id"], "prompt": row["prompt"]} for row in records(120)]
    target = KnownRiskTarget(risks(records(120)))
    result = tailbound.bound(
        rows,
        out=tmp_path / "run",
        target=target,
        judge=WordJudge(),
        budget=10,
        train_draws=30,
        test_draws=50,
        coverage_by="p_hat:2",
        progress=None,
    )
    assert len(result.groups.bound.names) == 2
    assert result.predictor is not None
    found = tailbound.verify(tmp_path / "run", progress=None)
    assert [check.name for check in found.checks if check.wrong] == []


def test_groups_fit_a_terminal_of_80_columns(tmp_path, capsys, monkeypatch):
    from tailbound.cli.render import bound as render

    result = make(tmp_path / "run", records(300), coverage_by="kind")
    monkeypatch.setenv("COLUMNS", "80")
    render.bound(result, subject="known")
    lines = capsys.readouterr().out.splitlines()
    assert any("Calibration by group" in line for line in lines)
    assert any("hold all at once" in line for line in lines)
    assert max(map(len, lines)) <= 80
