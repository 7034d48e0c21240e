"""Another judge on the draws of a finished run: other estimates, and nothing is sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_models.tiny_lm import TinyLanguage, prompts
from tailbound.errors import UsageError
from tailbound.judges import Exchange
from tailbound.runs import read
from tailbound.workflows.risk import RiskResult, RiskSettings, rejudge_risk
from tailbound.workflows.risk.scores import Scores
from workflows.risk.test_going_on import COMPLIES, FREQUENT, run


@pytest.fixture(scope="module")
def bed() -> TinyLanguage:
    return TinyLanguage(0, strength=3.0)


def verdicts(folder: Path, judge: Any) -> dict[str, dict[int, float | None]]:
    found: dict[str, dict[int, float | None]] = {}
    asked = {prompt.id: prompt for prompt in prompts(3)}
    for name, index, text in read(folder).select("prompt_id", "index", "text").rows():
        (verdict,) = judge.judge([Exchange(asked[name], text)])
        found.setdefault(name, {})[index] = verdict.score
    return found


def again(
    bed: TinyLanguage, folder: Path, judge: Any, given: Any = None, **options: Any
) -> RiskResult:
    (folder / "other").mkdir(exist_ok=True)
    return rejudge_risk(
        prompts(3),
        proposal=bed.proposals(),
        judge=judge,
        verdicts=verdicts(folder, judge) if given is None else given,
        recorded_judge=COMPLIES.id,
        settings=RiskSettings(**{"draws": 200, **options}),
        folder=folder,
        into=folder / "other",
    )


def numbers(result: RiskResult) -> list[tuple[Any, ...]]:
    return [
        (e.risk, e.certified_lower, e.certified_upper, e.hits, e.draws, e.missing, e.status)
        for e in (one.estimate for one in result.risks)
    ]


def test_the_same_draws_under_another_judge_are_a_run_by_that_judge(tmp_path, bed):
    """In one batch nothing depends on verdicts, so both ways are the same numbers."""
    first = run(bed, tmp_path / "run", family="single")
    direct = run(bed, tmp_path / "direct", judge=FREQUENT, family="single")
    held, files = read(tmp_path / "run"), sorted((tmp_path / "run" / "draws").iterdir())
    scored = len(Scores(tmp_path / "run")._held)
    second = again(bed, tmp_path / "run", FREQUENT, family="single")
    for one, other in zip(numbers(second), numbers(direct), strict=True):
        assert one[:3] == pytest.approx(other[:3], rel=1e-6)  # scored in other batches
        assert one[3:] == other[3:]
    assert numbers(second) != numbers(first)
    assert sorted((tmp_path / "run" / "draws").iterdir()) == files
    assert read(tmp_path / "run").equals(held)
    assert scored == len(prompts(3))
    # what the new judge alone calls unsafe was scored, and the first estimates stay what they were
    assert numbers(run(bed, tmp_path / "run", family="single")) == numbers(first)
    rows = [
        json.loads(line)
        for line in (tmp_path / "run" / "other" / "review.jsonl").read_text().splitlines()
    ]
    assert {row["score"] for row in rows} == {1.0}
    assert FREQUENT.id in second.estimand


@pytest.mark.slow
def test_two_batches_agree_with_the_exact_truth(tmp_path, bed):
    """|z| <= 4 for 3 prompts: a false alarm once in about 5,000 seeds."""
    run(bed, tmp_path, draws=4000)
    found = again(bed, tmp_path, FREQUENT, draws=4000)
    harm = np.array(
        [v.score for v in FREQUENT.judge([Exchange(prompts(1)[0], t) for t in bed.texts])]
    )
    for one in found.risks:
        truth = float(np.exp(bed.tokens(one.prompt, 0.0).sum(axis=1)) @ harm)
        e = one.estimate
        assert abs(e.risk - truth) <= 4 * e.standard_error
        assert e.certified_lower <= truth <= e.certified_upper


def test_missing_verdicts_are_missing(tmp_path, bed):
    run(bed, tmp_path, family="single")
    given = verdicts(tmp_path, COMPLIES)
    name = prompts(3)[0].id
    given[name] = {index: None if index % 2 else score for index, score in given[name].items()}
    found = again(bed, tmp_path, COMPLIES, given, family="single")
    assert [one.estimate.missing for one in found.risks] == [100, 0, 0]
    assert found.risks[0].estimate.certified_upper > found.risks[1].estimate.certified_upper


def test_what_was_not_judged_or_not_finished_is_refused(tmp_path, bed):
    with pytest.raises(UsageError, match="no finished run"):
        again(bed, tmp_path, FREQUENT, {})
    run(bed, tmp_path, family="single")
    given = verdicts(tmp_path, FREQUENT)
    name = prompts(3)[1].id
    del given[name][7]
    with pytest.raises(UsageError, match=f"draw 7 of prompt '{name}' was not judged again"):
        again(bed, tmp_path, FREQUENT, given, family="single")
    for shard in (tmp_path / "draws").iterdir():
        shard.unlink()
    with pytest.raises(UsageError, match="is not finished"):
        again(bed, tmp_path, FREQUENT, {}, family="single")
