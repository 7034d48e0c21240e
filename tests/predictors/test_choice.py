"""`--features`: what is read, what is said about it, and the bound without a predictor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts import PromptSet
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.bound import (
    BoundSettings,
    ConstantBound,
    choose_features,
    chosen_features,
    constant_bound,
    divide,
    predict_bounds,
    run_bound,
)

SETTINGS = BoundSettings(budget=40, train_draws=60, test_draws=100, seed=3)


class Closed:
    """A target that shows no hidden states."""

    def __init__(self, inner: KnownRiskTarget) -> None:
        self.contract, self.reproducible = inner.contract, inner.reproducible
        self.sample, self.prompt_tokens = inner.sample, inner.prompt_tokens


def world(n: int = 400) -> tuple[PromptSet, dict[str, float]]:
    """Half of the prompts say "steal" and have risk .2, the others .002."""
    rng = np.random.default_rng(0)
    prompts, risks = [], {}
    for i, bad in enumerate(rng.random(n) < 0.5):
        words = " ".join(f"thing{number}" for number in rng.integers(0, 30, 4))
        text = f"{i} how to {'steal' if bad else 'paint'} {words}"
        prompts.append(Prompt(id=f"q{i}", messages=(("user", text),)))
        risks[f"q{i}"] = 0.2 if bad else 0.002
    return PromptSet(prompts=tuple(prompts), field="prompt", source="known.jsonl"), risks


def test_the_default_depends_on_what_the_target_shows() -> None:
    open_ = KnownRiskTarget({})
    assert choose_features(None, open_) == ("hidden", ())
    chosen, (notice,) = choose_features(None, Closed(open_))
    assert chosen == "tfidf"
    assert "shows no hidden states: p_hat is predicted from the words" in notice
    assert choose_features("embeddings:org/encoder", open_)[0] == "embeddings:org/encoder"
    assert choose_features("embeddings", open_)[0].startswith("embeddings:sentence-transformers/")
    with pytest.raises(UsageError, match="shows no hidden states: use --features tfidf"):
        choose_features("hidden", Closed(open_))
    for wrong, message in {
        "bert": "unknown --features 'bert': known are embeddings, finetune, hidden, tfidf",
        "hiden": "did you mean 'hidden'",
        "embeddings:": "'embeddings:' ends with a colon",
        "tfidf:x": "tfidf takes no name, not 'x'",
        "finetune": "finetune needs an encoder",
    }.items():
        with pytest.raises(UsageError, match=message):
            choose_features(wrong, open_)


def test_a_bound_behind_a_closed_door_and_predictions_without_the_target(tmp_path: Path) -> None:
    prompts, risks = world()
    result = run_bound(
        divide(prompts, SETTINGS),
        target=Closed(KnownRiskTarget(risks)),
        judge=WordJudge(),
        settings=SETTINGS,
        folder=tmp_path,
    )
    assert result.predictor is not None
    assert result.predictor["features"] == "tfidf"
    assert result.predictor["explained"] > 0.6
    assert chosen_features(tmp_path) == "tfidf"
    assert result.evaluation is not None
    assert result.evaluation.overall.upper > 0.8
    (tmp_path / "run.yaml").unlink(missing_ok=True)
    found = {row.id: row for row in predict_bounds(tmp_path, prompts, target=None)}
    bad = [found[name].lower_bound for name, p in risks.items() if p > 0.1]
    good = [found[name].lower_bound for name, p in risks.items() if p < 0.1]
    assert np.median(good) > 5 * np.median(bad)
    # A predictor that tells the halves apart pays: without one, every L is near the risky half's.
    assert result.constant is not None
    assert result.constant.bound < np.median(good) / 2
    document = json.loads((tmp_path / "bound.json").read_text())
    assert document["constant"] == {"bound": result.constant.bound, "or_more": False}


def test_a_run_of_hidden_states_still_needs_its_target(tmp_path: Path) -> None:
    prompts, risks = world(200)
    target = KnownRiskTarget(risks)
    run_bound(
        divide(prompts, SETTINGS),
        target=target,
        judge=WordJudge(),
        settings=SETTINGS,
        folder=tmp_path,
    )
    assert chosen_features(tmp_path) == "hidden"
    with pytest.raises(UsageError, match="predicts from hidden states: its target is needed"):
        list(predict_bounds(tmp_path, prompts, target=None))


def test_the_constant_bound_is_the_quantile_of_t_over_prompts() -> None:
    """Against the truth: the largest L with mean P(T < L) <= alpha under known risks."""
    rng = np.random.default_rng(5)
    p = 10 ** rng.uniform(-4, -1, 4000)
    miscoverage = np.array([(1 - (1 - p) ** (t - 1)).mean() for t in range(1, 200)])
    truth = int(np.flatnonzero(miscoverage <= 0.1)[-1]) + 1
    found = [
        constant_bound(rng.binomial(300, some), np.full(500, 300), alpha=0.1).bound
        for some in (rng.choice(p, 500) for _ in range(20))
    ]
    assert np.mean(found) == pytest.approx(truth, rel=0.1)


def test_the_constant_bound_averages_over_the_order_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    unsafe, draws = np.array([0, 2, 5, 1]), np.array([12, 12, 12, 12])
    firsts = np.full((20_000, 4), 13)
    for prompt, k in enumerate(unsafe):
        if k:
            order = rng.permuted(np.tile(np.arange(12) < k, (20_000, 1)), axis=1)
            firsts[:, prompt] = order.argmax(axis=1) + 1
    for alpha in (0.1, 0.2, 0.4):
        allowed = [t for t in range(1, 14) if (firsts < t).mean() <= alpha]
        assert constant_bound(unsafe, draws, alpha=alpha).bound == max(allowed)


def test_wordings_share_a_weight_and_quiet_prompts_have_no_end() -> None:
    assert constant_bound([0, 0], [30, 20], alpha=0.1) == ConstantBound(bound=21, or_more=True)
    alone = constant_bound([5, 0, 0], [10, 10, 10], alpha=0.2)
    thrice = constant_bound([5] * 3 + [0] * 2, [10] * 5, alpha=0.2, units=["a"] * 3 + ["b", "c"])
    assert thrice == alone == ConstantBound(bound=2, or_more=False)
    assert constant_bound([5] * 3 + [0] * 2, [10] * 5, alpha=0.2).bound == 1
