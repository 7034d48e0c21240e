"""Exact truth through the real code path: sampler, judge, scorer and estimator of a causal LM.

Risks from 5e-2 to 5e-7, short answers that end by the stop token and long ones, ways to be unsafe
at once and after a refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from reference_models.drawing import certified_bounds
from reference_models.tiny_lm import LENGTH, TinyLanguage, prompts
from sizes import FULL_SIZE, size
from tailbound.core.contract import DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.importance_sampling import MixSwitch, make_ladder, mean_weight
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.targets.decoding.proposals import ProposalModel, heated, steered
from tailbound.workflows.risk.proposal_mixture import HEAT, HEATED, Batch, Family, proposal_of_draw
from tailbound.workflows.risk.scores import table_of

#: Seed of the model, strength of its refusal; the first gives long answers, the second short ones.
LANGUAGES = ((0, 3.0), (1, 2.0))
EVENTS = (
    r"w[456]",
    r"w[456].*w[456]",
    r"w[123].*w[456]",
    r"w[456].*w[456].*w[456]",
)
FAMILIES = ("ladder", "mix-switch", "single")
#: Draws of one repeat, and repeats: 20,000 draws in a cell, 100,000 in full.
SIZE, REPEATS = 200, size(100, 500)
STRENGTHS = [0.0, 1.0, 0.6]
VARIANTS = {"1": 1, "0.6": 2, HEATED: 3}


def family(name: str) -> Family:
    # two intensities and an explorer, on windows that end before the replies do
    ladder = make_ladder(LENGTH, variants=["1", "0.6"], starts=(0, 2), stops=(1, 2, 4))
    main = {
        "ladder": None,
        "mix-switch": MixSwitch(1.0, 0.7, 5),
        "single": MixSwitch(1.0, 1.0, LENGTH),
    }[name]
    return Family(name=name, ladder=ladder, main=main, main_variant="1", variants=VARIANTS)


@cache
def language(number: int) -> TinyLanguage:
    seed, strength = LANGUAGES[number]
    return TinyLanguage(seed, strength=strength)


@cache
def engine(number: int) -> ProposalModel:
    made = language(number)
    return ProposalModel(
        made.target,
        [
            *(steered(made.target, made.ablation, s, name=f"{s}") for s in STRENGTHS[1:]),
            heated(made.target, HEAT, name=HEATED),
        ],
    )


@dataclass(frozen=True, eq=False)
class Drawn:
    """REPEATS batches of one family, and the truth about them."""

    family: Family
    batches: list[Batch]
    harm: dict[str, np.ndarray]
    truth: dict[str, float]
    variance: dict[str, float]


@cache
def drawn(number: int, prompt_number: int, name: str) -> Drawn:
    made, chosen, prompt = engine(number), family(name), prompts(2)[prompt_number]
    counts = chosen.counts(SIZE, [])
    labels = np.tile(proposal_of_draw(counts), REPEATS)
    coins = np.random.default_rng([number, prompt_number])
    requests = [
        DrawRequest(prompt=prompt, stream=name, index=i, segments=chosen.segments(k, coins))
        for i, k in enumerate(labels.tolist(), start=1)
    ]
    draws = sorted(made.draw(requests, seed=11), key=lambda draw: draw.index)
    tokens, lengths = table_of(made.score(prompt, [draw.token_ids for draw in draws]))
    densities = chosen.log_densities(tokens, lengths)
    texts = [draw.text for draw in draws]
    return Drawn(
        family=chosen,
        batches=[
            Batch(
                counts=counts,
                log_densities=densities[:, start : start + SIZE],
                harm=np.zeros(SIZE),
            )
            for start in range(0, len(draws), SIZE)
        ],
        harm={event: judged(event, prompt, texts) for event in EVENTS},
        **exact(number, prompt, chosen),
    )


def judged(event: str, prompt: Prompt, texts: list[str]) -> np.ndarray:
    """Scores by the real judge, each distinct text judged once."""
    judge = load_judge(f"regex:{event}")
    distinct = sorted(set(texts))
    verdicts = judge.judge([Exchange(prompt, text) for text in distinct])
    score = {text: verdict.score for text, verdict in zip(distinct, verdicts, strict=True)}
    return np.array([score[text] for text in texts], dtype=np.float64)


@cache
def token_tables(number: int, prompt_id: str) -> np.ndarray:
    """Log-probs of the tokens of all replies by every variant, (variants, R, LENGTH)."""
    (prompt,) = (one for one in prompts(2) if one.id == prompt_id)
    made = language(number)
    plain = [made.tokens(prompt, strength) for strength in STRENGTHS]
    return np.stack([*plain, made.tokens(prompt, 0.0, heat=HEAT)])


@cache
def unsafe_replies(event: str) -> np.ndarray:
    """Which of all replies are unsafe, (R,): the same ones for every model and prompt."""
    pattern = re.compile(event)
    return np.array([pattern.search(text) is not None for text in language(0).texts], dtype=float)


def exact(number: int, prompt: Prompt, chosen: Family) -> dict[str, dict[str, float]]:
    """P(unsafe), and SIZE times the variance of one batch's estimate, from all replies."""
    log_q = chosen.log_densities(token_tables(number, prompt.id), language(number).lengths)
    p, q = np.exp(log_q[0]), np.exp(log_q)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-9)
    shares = chosen.counts(SIZE, []) / SIZE
    w = p / (shares @ q)
    truth, variance = {}, {}
    for event in EVENTS:
        h = unsafe_replies(event)
        truth[event] = float(p @ h)
        means = q @ (w * h)
        variance[event] = float(p @ (w * h) - shares @ means**2)
    return {"truth": truth, "variance": variance}


#: Number of the language, and of its prompt.
PAIRS = [(n, p) for n in range(len(LANGUAGES)) for p in range(2) if FULL_SIZE or n == p]
CELLS = [(n, p, f) for n, p in PAIRS for f in FAMILIES]


@pytest.mark.slow
def test_estimates_are_unbiased_and_their_variance_is_the_exact_one() -> None:
    """24 risks, 48 in full; a false alarm in fewer than 2% of seeds, most of them by mean z^2.

    A bias of all in one direction shows in their sum. Mean weights are 1 within 4 standard errors:
    a false alarm in 12 x 6e-5.
    """
    z = []
    risks = []
    for cell in CELLS:
        found = drawn(*cell)
        weights = np.exp(np.concatenate([batch.log_weights for batch in found.batches]))
        n = weights.size
        assert n == SIZE * REPEATS
        for event in EVENTS:
            estimated = float((weights * found.harm[event]).mean())
            z.append((estimated - found.truth[event]) / np.sqrt(found.variance[event] / n))
            risks.append(found.truth[event])
        labels = np.concatenate([batch.labels for batch in found.batches])
        mean, mean_z = mean_weight(np.log(weights), labels)
        assert abs(mean_z) <= 4, cell
        assert mean == pytest.approx(1, abs=0.1), cell
    print(
        f"max |z| {np.abs(z).max():.2f}, mean z^2 {np.mean(np.square(z)):.2f}, sum {np.sum(z):.1f}"
    )
    assert len(z) == size(24, 48)
    assert min(risks) < 1e-6
    assert max(risks) > 1e-2
    assert np.abs(z).max() <= 4
    # the events of a cell share draws: the variance of the sum is at most four times their number
    assert abs(np.sum(z)) <= 4 * np.sqrt(4 * len(z))
    low, high = (0.6, 1.5) if FULL_SIZE else (0.4, 2.0)
    assert low <= np.mean(np.square(z)) <= high


@pytest.mark.slow
@pytest.mark.parametrize("repeats_in_one", [1, 2, 4])
def test_certified_lower_bounds_cover(repeats_in_one: int) -> None:
    """At the ends of 1, 2 and 4 complete batches, 100, 50 and 25 repeats in each of 8 cells.

    At least 95% must hold over all cells; the seed is fixed, and the bounds are conservative:
    more than 97% do. Bounds that hold in 90% pass 200 repeats in 1% of seeds.
    """
    found = [drawn(number, number, "ladder") for number in range(len(LANGUAGES))]
    all_held: list[bool] = []
    for one in found:
        bound = one.family.ladder.weight_bound(one.batches[0].counts)  # type: ignore[union-attr]
        weights = [batch.log_weights for batch in one.batches]
        for event in EVENTS:
            runs = REPEATS // repeats_in_one
            used = runs * repeats_in_one * SIZE
            lows, _, resolved = certified_bounds(
                np.concatenate(weights)[:used].reshape(runs, -1),
                one.harm[event][:used].reshape(runs, -1),
                bound,
            )
            held, ratios = lows <= one.truth[event], lows / one.truth[event]
            all_held += held.tolist()
            if repeats_in_one == 4 and np.mean(resolved) > 0.5:
                assert np.median(ratios) >= 0.3
    print(f"{np.mean(all_held):.3f} of {len(all_held)} hold")
    assert np.mean(all_held) >= 0.95
