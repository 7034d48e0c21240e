"""Coverage with a planted judge over weighted draws, of a change, and of a corrected bound.

Weighted draws: 40 prompts with log-normal risks, 500 draws of each, a tenth from the target and the
others from a proposal that is unsafe in 30% of draws and does not match the target's unsafe
replies; safe draws are scored with a chance of 10%. Intervals that cover exactly 95% would fall
below 93% of 300 repeats in about 5% of all seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from tests.sizes import size

from tailbound.judge_error import (
    Stratum,
    WeightedStratum,
    bound_misses,
    corrected_change,
    pick,
    weighted_prevalence,
)

pytestmark = pytest.mark.slow
REPEATS = size(300, 1_000)
SIMULATED = 2_000


@dataclass(frozen=True, kw_only=True)
class World:
    """Weighted draws and a judge of them; `shift` is how far the proposal's replies are off."""

    risk: float
    sensitivity: float = 0.9
    specificity: float = 0.999
    positives: int = 300
    negatives: int = 300
    shift: float = 0.5
    scored: float = 0.1
    prompts: int = 40
    draws: int = 500
    own: float = 0.1
    unsafe: float = 0.3

    def risks(self, rng: np.random.Generator) -> np.ndarray:
        found = np.exp(rng.normal(0, 1.5, self.prompts))
        return np.minimum(found * self.risk / found.mean(), 0.5)

    def repeat(
        self, risks: np.ndarray, rng: np.random.Generator
    ) -> tuple[list[WeightedStratum], float]:
        """Labelled strata of one run, and the rate as judged."""
        shape = (self.prompts, self.draws)
        ours = np.arange(self.draws) < self.own * self.draws
        r = risks[:, None]
        truth = rng.random(shape) < np.where(ours, r, self.unsafe)
        off = np.where(truth, self.shift, 0.3 * self.shift)
        latent = rng.normal(size=shape) + np.where(ours, 0.0, off)
        ratio = np.where(truth, self.unsafe / r, (1 - self.unsafe) / (1 - r))
        ratio = ratio * np.exp(off * latent - off**2 / 2)
        weights = 1 / (self.own + (1 - self.own) * ratio)
        judged = rng.random(shape) < np.where(truth, self.sensitivity, 1 - self.specificity)
        kept = judged | (rng.random(shape) < self.scored)
        counts = weights / truth.size / np.where(judged, 1.0, self.scored)
        counts, truth, judged = counts[kept], truth[kept], judged[kept]
        edge = counts[judged].max(initial=0.0)
        light, heavy = ~judged & (counts <= edge), ~judged & (counts > edge)
        half = self.negatives // 2
        parts = [(judged, self.positives), (light, half), (heavy, self.negatives - half)]
        strata = [
            labelled(counts[part], truth[part], wanted, rng) for part, wanted in parts if part.any()
        ]
        return strata, float(counts[judged].sum())


def labelled(
    counts: np.ndarray, truth: np.ndarray, wanted: int, rng: np.random.Generator
) -> WeightedStratum:
    found = pick(counts, wanted, rng=rng)
    sure, rows = found.certain, found.rows
    unsafe = int((truth[rows] * found.times).sum())
    heavy = float((truth[rows] * found.times * counts[rows]).sum())
    return WeightedStratum(
        draws=counts.size,
        certain=float(counts[sure].sum()),
        certain_unsafe=float((counts * truth)[sure].sum()),
        certain_unclear=0.0,
        squares=float((counts**2 * truth)[sure].sum()),
        rest=float(counts.sum() - counts[sure].sum()) if rows.size else 0.0,
        picks=int(found.times.sum()),
        unsafe=unsafe,
        unclear=0,
        of_pick=heavy / unsafe if unsafe else None,
        largest=float(counts.max()),
    )


def normal_interval(strata: list[WeightedStratum]) -> tuple[float, float]:
    """The usual one of the same estimate: standard errors of both phases, and 1.96 of them."""
    value = sum(one.estimate or 0.0 for one in strata)
    variance = 0.0
    for one in strata:
        share = one.unsafe / one.picks if one.picks else 0.0
        variance += one.rest**2 * share * (1 - share) / max(one.picks, 1)
        variance += one.squares + one.rest * share * (one.of_pick or 0.0)
    return value - 1.96 * variance**0.5, value + 1.96 * variance**0.5


@pytest.mark.parametrize(
    "world",
    [
        World(risk=1e-4, shift=1.5),
        World(risk=1e-2, shift=2.0, positives=2_000, negatives=20_000, scored=1.0),
        World(risk=5e-2, sensitivity=0.6, specificity=0.98, positives=60, negatives=150),
        World(risk=1e-3, sensitivity=0.3, specificity=1.0, negatives=3_000, scored=1.0),
    ],
    ids=lambda world: f"{world.risk:g}-{world.sensitivity:g}-{world.negatives}",
)
def test_weighted_draws_with_a_planted_judge_are_covered(world: World) -> None:
    rng = np.random.default_rng(0)
    risks = world.risks(rng)
    theta = risks.mean()
    inside = {"corrected": 0, "normal": 0}
    factors, errors = [], []
    for _ in range(REPEATS):
        strata, judged = world.repeat(risks, rng)
        found = weighted_prevalence(strata, rng=rng, simulated=SIMULATED)
        assert found.estimate is not None
        for name, (low, high) in (
            ("corrected", found.interval),
            ("normal", normal_interval(strata)),
        ):
            inside[name] += bool(low <= theta <= high)
        factors.append(judged / theta)
        errors.append(found.estimate / theta)
    shares = {name: count / REPEATS for name, count in inside.items()}
    print(world, shares, f"as judged / truth {np.median(factors):.3g}", f"{np.mean(errors):.3g}")
    assert shares["corrected"] >= 0.93
    assert np.mean(errors) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("negatives", [200, 2_000])
def test_a_corrected_change_is_covered(negatives: int) -> None:
    """Two runs of 20,000 draws; the judge of B misses half, so that as judged nothing changed."""
    rng = np.random.default_rng(0)
    n, rates, sensitivity, specificity = 20_000, (0.01, 0.02), (1.0, 0.5), 0.995

    def side(rate: float, finds: float) -> tuple[list[Stratum], float]:
        unsafe = int(rng.binomial(n, rate))
        caught = int(rng.binomial(unsafe, finds))
        alarms = int(rng.binomial(n - unsafe, 1 - specificity))
        said = caught + alarms
        label = min(said, 300)
        found = int(rng.hypergeometric(caught, alarms, label))
        missed = int(rng.hypergeometric(unsafe - caught, n - unsafe - alarms, negatives))
        return [
            Stratum(draws=said, labelled=label, unsafe=found),
            Stratum(draws=n - said, labelled=negatives, unsafe=missed),
        ], said / n

    inside, ratio_inside, as_judged = 0, 0, 0
    for _ in range(REPEATS):
        (a, judged_a), (b, judged_b) = map(side, rates, sensitivity)
        found = corrected_change(a, b, rng=rng, simulated=SIMULATED)
        inside += bool(found.difference[0] <= rates[1] - rates[0] <= found.difference[1])
        top = np.inf if found.ratio[1] is None else found.ratio[1]
        ratio_inside += bool(found.ratio[0] <= rates[1] / rates[0] <= top)
        spread = 1.96 * ((judged_a + judged_b) / n) ** 0.5
        as_judged += bool(abs(judged_b - judged_a - 0.01) <= spread)
    print(negatives, inside / REPEATS, ratio_inside / REPEATS, as_judged / REPEATS)
    assert min(inside, ratio_inside) >= 0.93 * REPEATS
    assert as_judged == 0


def test_a_corrected_bound_holds_and_alpha_alone_does_not() -> None:
    """Bounds of 30 draws at what the judge calls unsafe: it misses half, so they fail twice as
    often as it says; the share of failures plus the limit of what it missed is above the truth.
    """
    rng = np.random.default_rng(0)
    prompts, bound, sensitivity = 300, 30, 0.5
    truly = np.minimum(np.exp(rng.normal(-7.5, 1.2, 100_000)), 0.5)
    fails = float((1 - (1 - truly) ** (bound - 1)).mean())
    by_judge = float((1 - (1 - sensitivity * truly) ** (bound - 1)).mean())
    assert fails > 1.8 * by_judge
    inside = 0
    for _ in range(REPEATS):
        p = rng.choice(truly, prompts)
        unsafe = rng.random((prompts, bound - 1)) < p[:, None]
        caught = unsafe & (rng.random(unsafe.shape) < sensitivity)
        passed = ~caught.any(axis=1)
        missed = unsafe[passed]
        label = min(4_000, missed.size)
        found = bound_misses(
            Stratum(
                draws=missed.size,
                labelled=label,
                unsafe=int(rng.choice(missed.ravel(), label, replace=False).sum()),
            ),
            prompts=prompts,
            passed=int(passed.sum()),
            rng=rng,
            simulated=SIMULATED,
        )
        inside += bool(by_judge + found.chance >= fails)
    print(fails, by_judge, inside / REPEATS)
    assert inside >= 0.95 * REPEATS
