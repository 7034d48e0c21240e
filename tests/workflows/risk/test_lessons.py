"""Batches of a ladder: their sizes, who draws in them, and what they learned from earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from reference_models.tiny_lm import TinyLanguage, prompts
from tailbound.errors import LedgerError
from tailbound.importance_sampling import until_turn
from tailbound.judges.registry import load_judge
from tailbound.runs import read
from tailbound.workflows.risk import RiskSettings, run_risk
from tailbound.workflows.risk.proposal_mixture import LEARNED, OPENING, POOLED

COMPLIES = load_judge(r"regex:w[456].*w[456]")
SIZES = (100, 80, 100, 120)
"""25, 20, 25 and 30 % of 400 draws."""


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(0, strength=3.0)


def run(bed: TinyLanguage, folder: Path, *, explore: bool = True, draws: int = 400) -> Any:
    return run_risk(
        prompts(3),
        proposal=bed.proposals(explore=explore),
        judge=COMPLIES,
        settings=RiskSettings(draws=draws),
        folder=folder,
    )


def plan(folder: Path, number: int) -> tuple[list[str | None], dict[str, np.ndarray]]:
    held = json.loads((folder / "plan" / f"round-{number:04d}.json").read_text())
    return held["proposals"], {name: np.array(n) for name, n in held["batches"].items()}


def test_draws_come_in_four_batches_and_the_later_ones_learn(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    run(bed, tmp_path)
    for number, size in enumerate(SIZES, start=1):
        names, batches = plan(tmp_path, number)
        taught = np.array([str(name).startswith((LEARNED, POOLED, OPENING)) for name in names])
        explored = np.array([str(name).startswith("heated") for name in names])
        assert taught.sum() == 11
        for counts in batches.values():
            assert counts.sum() == size
            assert counts[0] == round(size / 10)
            assert counts[taught].sum() == (0 if number == 1 else round(0.4 * size))
            if number == 1:
                assert abs(counts[explored].sum() - 0.75 * (size - counts[0])) <= 2
    assert not (tmp_path / "plan" / "round-0005.json").exists()


def test_a_prompt_that_is_often_unsafe_is_left_to_plain_monte_carlo(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    often = load_judge(r"regex:w[1-6]")
    result = run_risk(
        prompts(2),
        proposal=bed.proposals(),
        judge=often,
        settings=RiskSettings(draws=400),
        folder=tmp_path,
    )
    assert min(one.estimate.risk for one in result.risks) > 0.3
    assert all(one.estimate.resolved for one in result.risks)
    for number, size in enumerate(SIZES, start=1):
        _, batches = plan(tmp_path, number)
        for counts in batches.values():
            assert counts[0] == (size // 10 if number == 1 else size)
    lesson = json.loads((tmp_path / "plan" / "lesson-0002.json").read_text())
    assert lesson["learned"] == {}
    before = (tmp_path / "risk.json").read_bytes()
    (tmp_path / "risk.json").unlink()
    run_risk(
        prompts(2),
        proposal=bed.proposals(),
        judge=often,
        settings=RiskSettings(draws=400),
        folder=tmp_path,
    )
    assert (tmp_path / "risk.json").read_bytes() == before


def test_lessons_hold_the_tokens_of_the_unsafe_draws_before_them(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    run(bed, tmp_path)
    draws = read(tmp_path, stream="risk")
    assert not (tmp_path / "plan" / "lesson-0001.json").exists()
    for number, seen in ((2, 100), (3, 180), (4, 280)):
        lesson = json.loads((tmp_path / "plan" / f"lesson-{number:04d}.json").read_text())
        for name, table in lesson["learned"].items():
            rows = draws.filter(
                (draws["prompt_id"] == name) & (draws["index"] <= seen) & (draws["score"] >= 0.5)
            )
            said = {token for ids in rows["token_ids"].to_list() for token in ids}
            assert set(table["tokens"]) <= said
            assert min(table["added"]) > 0
        assert lesson["opening"].keys() == lesson["learned"].keys()
        for name, table in lesson["opening"].items():
            rows = draws.filter(
                (draws["prompt_id"] == name) & (draws["index"] <= seen) & (draws["score"] >= 0.5)
            )
            assert set(table["tokens"]) == {ids[0] for ids in rows["token_ids"].to_list()}
            assert min(table["added"]) > 0
        assert set(lesson["pooled"]["tokens"]) == {
            token for table in lesson["learned"].values() for token in table["tokens"]
        }


def test_replies_are_learned_from_up_to_the_turn_that_scoring_found(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    """Turning points on record are those of the target's own log-probabilities."""
    run(bed, tmp_path)
    engine = bed.proposals().target.with_variants([])
    draws = read(tmp_path, stream="risk")
    by_id = {one.id: one for one in prompts(3)}
    shards = [pl.read_parquet(path) for path in sorted((tmp_path / "scores").glob("*.parquet"))]
    turns = pl.concat(shards).join(draws, on=["prompt_id", "index"])
    assert len(turns) > 100
    seen: dict[str, set[int]] = {}
    for name, index, ids, turn, score in turns.select(
        "prompt_id", "index", "token_ids", "turn", "score"
    ).iter_rows():
        (scored,) = engine.score(by_id[name], [ids])
        assert turn == len(until_turn([ids], [scored[0]])[0])
        if index <= 100 and score >= 0.5:
            seen.setdefault(name, set()).update(ids[:turn])
    lesson = json.loads((tmp_path / "plan" / "lesson-0002.json").read_text())
    for name, table in lesson["learned"].items():
        assert set(table["tokens"]) == seen[name]


def test_without_explorers_nothing_is_learned_and_coverage_is_not_checked(
    bed: TinyLanguage, tmp_path: Path
) -> None:
    result = run(bed, tmp_path, explore=False)
    names, _ = plan(tmp_path, 2)
    assert not any(str(name).startswith(("heated", LEARNED, POOLED)) for name in names)
    assert not list((tmp_path / "plan").glob("lesson-*"))
    for risk in result.risks:
        assert (risk.estimate.coverage, risk.estimate.resolved) == ("not checked", False)


def test_few_draws_are_one_batch(bed: TinyLanguage, tmp_path: Path) -> None:
    result = run(bed, tmp_path, draws=50)
    assert not (tmp_path / "plan" / "round-0002.json").exists()
    assert all(risk.estimate.coverage == "not checked" for risk in result.risks)


def test_a_lost_lesson_is_an_error_in_one_line(bed: TinyLanguage, tmp_path: Path) -> None:
    run(bed, tmp_path)
    (tmp_path / "plan" / "lesson-0003.json").unlink()
    with pytest.raises(LedgerError, match=r"lesson-0003\.json is missing: restore it"):
        run(bed, tmp_path)
