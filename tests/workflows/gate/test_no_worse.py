"""`--no-worse-than BASE`: shown, contradicted, or not to be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import tailbound
from tailbound.errors import UsageError
from tailbound.runs.prompts import keep_table, kept_table
from tailbound.workflows.gate.assessment import Assessment

PROMPTS, DRAWS = 60, 100
Made = Callable[..., Path]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(
        name: str, rate: float, *, missing: int = 0, threshold: float = 0.5, judge: str = ""
    ) -> Path:
        rng = np.random.default_rng(len(name))
        rows = [
            {"prompt_id": f"p{i}", "response": f"x{j}", "score": float(rng.random() < rate)}
            for i in range(PROMPTS)
            for j in range(DRAWS)
        ]
        for row in rows[:missing]:
            row["score"] = None  # type: ignore[assignment]
        for row in rows if judge else []:
            row[judge] = row.pop("score")
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        tailbound.import_draws(
            source, tmp_path / name, threshold=threshold, judge_name=judge or None, progress=None
        )
        return tmp_path / name

    return make


def assessed(run: Path, base: Path, **options: object) -> Assessment:
    (found,) = tailbound.gate(run, no_worse_than=base, **options).assessments
    return found


def test_a_safer_run_is_shown_to_be_no_worse(made: Made) -> None:
    run, base = made("run", 0.005), made("base", 0.03)
    found = assessed(run, base)
    assert found.outcome == "met"
    assert found.high is not None
    assert found.high <= 1.5
    assert tailbound.gate(run, no_worse_than=base).passed


def test_a_run_three_times_as_unsafe_fails(made: Made) -> None:
    found = assessed(made("run", 0.09), made("base", 0.03))
    assert found.outcome == "failed"
    assert found.low is not None
    assert found.low > 1.5
    assert assessed(made("again", 0.09), made("before", 0.03), tolerance=6).outcome == "met"


def test_a_run_alike_cannot_be_told_from_few_draws(made: Made) -> None:
    run, base = made("run", 0.003), made("base", 0.003)
    found = assessed(run, base, tolerance=1.2)
    assert found.outcome == "cannot tell"
    assert not tailbound.gate(run, no_worse_than=base, tolerance=1.2).passed
    assert tailbound.gate(run, no_worse_than=base, tolerance=1.2, undecided="pass").passed


def test_nothing_unsafe_and_missing_verdicts_show_nothing(made: Made) -> None:
    base = made("base", 0.03)
    assert assessed(made("none", 0.0), base).outcome == "cannot tell"
    partly = assessed(made("partly", 0.005, missing=5), base)
    assert partly.outcome == "cannot tell"
    assert "verdicts are missing" in partly.detail


def test_other_judges_and_thresholds_show_nothing(made: Made) -> None:
    """A stricter judge in the run before, or a laxer one now, is no safer model."""
    base = made("base", 0.03)
    lax = assessed(made("run", 0.005, threshold=0.9), base)
    assert lax.outcome == "cannot tell"
    assert "different thresholds" in lax.detail
    assert assessed(made("worse", 0.09, threshold=0.9), base).outcome == "cannot tell"
    other = assessed(made("other", 0.005, judge="another"), base)
    assert other.outcome == "cannot tell"
    assert "different judges" in other.detail


def test_a_few_prompts_or_identical_draws_show_nothing(tmp_path: Path) -> None:
    """The interval of the ratio is (1, 1) where every prompt has the same rate in both."""

    def made(name: str, unsafe: list[int], prompts: int) -> Path:
        rows = [
            {"prompt_id": f"p{i}", "response": "x", "score": float(i in unsafe)}
            for i in range(prompts)
        ]
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        tailbound.import_draws(source, tmp_path / name, progress=None)
        return tmp_path / name

    two = assessed(made("b", [0, 1], 2), made("a", [0, 1], 2))
    assert two.outcome == "cannot tell"
    assert "come from 2 prompts or groups in effect" in two.detail
    same = assessed(made("d", list(range(20)), 40), made("c", list(range(20)), 40))
    assert same.outcome == "cannot tell"
    assert "no width" in same.detail


def test_prompts_that_were_not_drawn_show_nothing(made: Made) -> None:
    run, base = made("run", 0.005), made("base", 0.03)
    assert assessed(run, base).outcome == "met"
    table = kept_table(run)
    more = table.head(1).with_columns(id=pl.lit("not drawn"))
    keep_table(run, pl.concat([table, more]))
    found = assessed(run, base)
    assert found.outcome == "cannot tell"
    assert "have no draw yet" in found.detail


def test_wrong_options_are_one_line(made: Made, tmp_path: Path) -> None:
    base = made("base", 0.03)
    with pytest.raises(UsageError, match="is not a run folder"):
        tailbound.gate(base, no_worse_than=tmp_path)
    with pytest.raises(UsageError, match="--tolerance must be a number of at least 1"):
        tailbound.gate(base, no_worse_than=base, tolerance=0.5)
    with pytest.raises(UsageError, match="or --no-worse-than"):
        tailbound.gate(base)
