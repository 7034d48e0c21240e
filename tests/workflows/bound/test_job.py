"""The whole job on a target with known risks: resumable, order-free, honest about missing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError, UnreachableError, UsageError
from tailbound.prompts import PromptSet
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import (
    BoundResult,
    BoundSettings,
    divide,
    predict_bounds,
    run_bound,
)
from tailbound.workflows.bound.results import read_result

SETTINGS = BoundSettings(budget=20, train_draws=30, test_draws=100, seed=3)


def prompt_set(n: int = 200, *, wordings: int = 1, p_hat=None) -> PromptSet:
    prompts = tuple(
        Prompt(
            id=f"q{i}w{w}",
            messages=(("user", f"question {i} wording {w}"),),
            group=f"q{i}" if wordings > 1 else None,
        )
        for i in range(n)
        for w in range(wordings)
    )
    return PromptSet(prompts=prompts, field="prompt", source="known.jsonl", p_hat=p_hat)


def risks(prompts: PromptSet) -> dict[str, float]:
    values = 10 ** np.random.default_rng(0).uniform(-4, -0.5, len(prompts))
    return {prompt.id: float(value) for prompt, value in zip(prompts, values, strict=True)}


class FailsAfter(KnownRiskTarget):
    """Breaks down after so many draws."""

    def __init__(self, risks, draws: int, **options) -> None:
        super().__init__(risks, **options)
        self._draws = draws

    def sample(self, source, *, seed):
        for number, draw in enumerate(super().sample(source, seed=seed)):
            if number >= self._draws:
                raise TargetError("the server went away")
            yield draw


def run(folder, prompts, *, settings=SETTINGS, target=None, judge=None, **options):
    folder.mkdir(exist_ok=True)
    return run_bound(
        divide(prompts, settings),
        target=target or KnownRiskTarget(risks(prompts), **options),
        judge=judge or WordJudge(),
        settings=settings,
        folder=folder,
    )


def documents(folder) -> tuple[str, str, list]:
    return (
        (folder / "bound.json").read_text(),
        (folder / "evaluation.json").read_text(),
        pl.read_parquet(folder / "predictions.parquet").rows(),
    )


def test_results_do_not_depend_on_the_batch_size(tmp_path):
    prompts = prompt_set()
    found = []
    for size in (1, 7, 64):
        run(tmp_path / str(size), prompts, batch_size=size)
        found.append(documents(tmp_path / str(size)))
    assert found[0] == found[1] == found[2]


def test_a_run_that_breaks_down_again_and_again_ends_with_the_same_results(tmp_path):
    prompts = prompt_set()
    run(tmp_path / "whole", prompts)
    broken, failures = tmp_path / "broken", 0
    while True:
        try:
            run(broken, prompts, target=FailsAfter(risks(prompts), 700, batch_size=16))
            break
        except TargetError:
            failures += 1
    assert failures >= 3
    assert documents(broken) == documents(tmp_path / "whole")
    draws = pl.read_parquet(broken / "draws")
    assert not draws.select("stream", "prompt_id", "index").is_duplicated().any()


def test_running_again_draws_nothing(tmp_path):
    prompts = prompt_set()
    run(tmp_path / "run", prompts)
    before = documents(tmp_path / "run")
    run(tmp_path / "run", prompts, target=FailsAfter(risks(prompts), 0))
    assert documents(tmp_path / "run") == before


def test_a_finished_run_can_be_topped_up(tmp_path):
    prompts = prompt_set()
    small = run(tmp_path / "run", prompts)
    more = BoundSettings(budget=40, train_draws=60, test_draws=100, seed=3)
    large = run(tmp_path / "run", prompts, settings=more)
    fresh = run(tmp_path / "fresh", prompts, settings=more)
    assert documents(tmp_path / "run") == documents(tmp_path / "fresh")
    assert large.bound.cap > small.bound.cap
    assert fresh.spend["train"].generated == large.spend["train"].generated


def test_spend_counts_what_was_used_and_what_was_generated(tmp_path):
    result = run(tmp_path / "run", prompt_set())
    for spend in result.spend.values():
        assert 0 < spend.used <= spend.generated
    assert result.spend["calibration"].used == result.bound.spent


def test_coverage_is_near_its_target(tmp_path):
    prompts = prompt_set(1000)
    result = run(tmp_path / "run", prompts)
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    risk = np.array([risks(prompts)[name] for name in table["id"]])
    bounds = table["lower_bound"].to_numpy()
    coverage = np.exp((bounds - 1) * np.log1p(-risk)).mean()
    # The standard deviation over calibrations is about .012 here; 4 of them.
    assert abs(coverage - 0.9) < 0.05
    assert result.evaluation is not None
    assert result.evaluation.overall.lower is not None


def test_missing_verdicts_are_never_safe(tmp_path):
    prompts = prompt_set()
    calibration = divide(prompts, SETTINGS).calibration
    silent = frozenset(prompt.id for prompt in calibration[::40])
    plain = run(tmp_path / "plain", prompts)
    result = run(tmp_path / "missing", prompts, judge=WordJudge(missing_ids=silent))
    assert result.missing.prompts_stopped > 0
    assert result.bound.level <= plain.bound.level
    assert result.missing.level_if_safe >= result.bound.level


def test_a_judge_that_rarely_answers_stops_the_run_after_training(tmp_path):
    prompts = prompt_set()
    train = divide(prompts, SETTINGS).train
    judge = WordJudge(missing_ids=frozenset(prompt.id for prompt in train[::3]))
    with pytest.raises(UnreachableError, match="gave no verdict on"):
        run(tmp_path / "run", prompts, judge=judge)
    assert set(pl.read_parquet(tmp_path / "run" / "draws")["stream"]) == {"train"}


def test_one_wording_of_each_group_is_calibrated(tmp_path):
    parts = divide(prompt_set(200, wordings=3), SETTINGS)
    for part in (parts.calibration, parts.test):
        assert len({prompt.group for prompt in part}) == len(part)
    assert len(parts.train) == 3 * len({prompt.group for prompt in parts.train})


@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
def test_predictions_of_the_users_own(tmp_path, guarantee):
    prompts = prompt_set(600)
    p_hat = np.array([risks(prompts)[prompt.id] for prompt in prompts])
    prompts = prompt_set(600, p_hat=p_hat)
    settings = BoundSettings(budget=30, guarantee=guarantee, seed=1)
    result = run(tmp_path / "run", prompts, settings=settings)
    assert "train" not in result.spend
    assert result.bound.guarantee == guarantee
    assert result.bound.level > 0
    new = list(predict_bounds(tmp_path / "run", prompts, target=None))
    assert [row.lower_bound for row in new] == result.bound.predict(p_hat).tolist()


def test_predictions_for_new_prompts_come_from_the_same_predictor(tmp_path):
    prompts = prompt_set()
    target = KnownRiskTarget(risks(prompts))
    run(tmp_path / "run", prompts, target=target)
    from tailbound.runs import manifest

    document = manifest.full_manifest(
        command="bound",
        contract=target.contract,
        target="known-risk",
        engine={},
        judge="word",
        judge_id="word",
        threshold=0.5,
        options={},
    )
    manifest.write_manifest(tmp_path / "run", document)
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    new = {row.id: row for row in predict_bounds(tmp_path / "run", prompts, target=target)}
    for row in table.iter_rows(named=True):
        assert new[row["id"]].lower_bound == row["lower_bound"]
        assert new[row["id"]].p_hat == pytest.approx(row["p_hat"], rel=1e-5)


def test_forty_prompts_are_enough_for_the_default_split_and_39_are_not():
    parts = divide(prompt_set(40), BoundSettings(budget=5))
    assert [len(part) for part in parts.all] == [12, 20, 8]
    with pytest.raises(
        UsageError, match=r"^19 of the 39 .* calibration part, .* least 20: "
    ) as caught:
        divide(prompt_set(39), BoundSettings(budget=5))
    assert "a split of 0.3,0.5,0.2 needs at least 40 prompts in all" in str(caught.value)


def test_too_few_prompts_are_refused_before_anything_is_drawn():
    with pytest.raises(UsageError, match=r"least 20: a split of 0\.6,0\.2,0\.2 needs at least 99 "):
        divide(prompt_set(30), BoundSettings(budget=5, shares=(0.6, 0.2, 0.2)))
    with pytest.raises(UnreachableError, match=r"'pac' at alpha = 0\.02 needs at least"):
        divide(prompt_set(100), BoundSettings(budget=30, alphas=(0.02,), guarantee="pac"))


def test_several_miscoverages_come_from_the_same_draws(tmp_path):
    known = risks(prompt_set(600))
    prompts = prompt_set(600, p_hat=np.array(list(known.values())))
    several = replace(SETTINGS, alphas=(0.05, 0.2, 0.1))
    result = run(tmp_path / "run", prompts, settings=several)
    assert [one.bound.alpha for one in (result, *result.at_alpha)] == [0.2, 0.1, 0.05]
    levels = [result.bound.level, *(one.bound.level for one in result.at_alpha)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0
    for one in result.at_alpha:
        assert one.bound.spent == result.bound.spent
        assert one.coverage.prompts == result.evaluation.overall.prompts
        assert one.coverage.covered >= result.evaluation.overall.covered
        assert one.median_bound <= result.median_bound
    # no weight is too large for the smallest miscoverage to be relied upon
    assert "No coverage" not in result.at_alpha[-1].bound.statement
    assert read_result(tmp_path / "run") == result
    assert BoundResult.from_json(result.to_json()) == result
    found = list(predict_bounds(tmp_path / "run", prompts, target=None))
    assert all(p.lower_bound >= p.at_alpha["0.1"] >= p.at_alpha["0.05"] >= 1 for p in found)
    assert any(p.lower_bound > p.at_alpha["0.1"] > p.at_alpha["0.05"] for p in found)
    alone = run(tmp_path / "alone", prompts, settings=replace(SETTINGS, alphas=(0.2,)))
    assert alone.at_alpha == ()
    first = next(predict_bounds(tmp_path / "alone", prompts, target=None))
    assert "at_alpha" not in first.to_dict()


def test_the_smallest_miscoverage_decides_how_many_prompts_are_needed():
    with pytest.raises(UnreachableError, match=r"alpha = 0\.001 needs at least 999"):
        divide(prompt_set(100), replace(SETTINGS, alphas=(0.1, 0.001)))


def test_bound_json_is_strict_json(tmp_path):
    result = run(tmp_path / "run", prompt_set())
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["bound"]["guarantee"] == "marginal"


@pytest.mark.parametrize(
    "bad",
    [
        {"budget": 0},
        {"budget": 5, "alphas": (0,)},
        {"budget": 5, "alphas": (0.1, 1)},
        {"budget": 5, "alphas": ()},
        {"budget": 5, "delta": 1},
        {"budget": 5, "guarantee": "sure"},
        {"budget": 5, "design": "best"},
        {"budget": 5, "train_draws": 0},
        {"budget": 5, "threshold": 0.0},
        {"budget": 5, "seed": -1},
    ],
)
def test_settings_out_of_range_are_usage_errors(bad):
    with pytest.raises(UsageError, match="--"):
        BoundSettings(**bad)
