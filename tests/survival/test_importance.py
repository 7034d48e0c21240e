"""The curve from weighted draws: unbiased at every time, by enumeration; where it crosses alpha."""

from __future__ import annotations

from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.survival import quantile
from tailbound.survival.importance import (
    WeightedCurve,
    WeightedDraws,
    examine,
    planned_positions,
)

VALUES, CHANCES = (0.0, 0.2, 1.5), (0.6, 0.3, 0.1)
"""What one weighted draw brings, and how often."""
RISK = float(np.dot(VALUES, CHANCES))


@pytest.mark.parametrize(("positions", "chance"), [(3, 1.0), (5, 0.5)])
def test_survival_is_unbiased_at_every_time_by_enumeration(positions: int, chance: float) -> None:
    times = np.arange(positions + 1)
    mean = np.zeros(times.size)
    for count in range(positions + 1):
        made = comb(positions, count) * chance**count * (1 - chance) ** (positions - count)
        if made == 0:
            continue
        for choice in product(range(len(VALUES)), repeat=count):
            draws = WeightedDraws(
                terms=np.array([VALUES[one] for one in choice]),
                positions=positions,
                chance=chance,
            )
            weight = np.prod([CHANCES[one] for one in choice])
            mean += made * weight * draws.survival(times)
    np.testing.assert_allclose(mean, (1 - RISK) ** times, rtol=1e-9, atol=1e-12)


def test_survival_is_the_mean_of_products_over_all_subsets_of_positions() -> None:
    terms, positions, chance = np.array([0.0, 0.3, 2.0]), 7, 0.4
    draws = WeightedDraws(terms=terms, positions=positions, chance=chance)
    factors = 1 - terms / chance
    for t in range(positions + 1):
        products = []
        for places in combinations(range(1, positions + 1), terms.size):
            # which draw stands where does not matter: average over the orders of the factors
            early = sum(place <= t for place in places)
            subsets = list(combinations(factors, early))
            products.append(np.mean([np.prod(subset) for subset in subsets]))
        assert draws.survival([t])[0] == pytest.approx(np.mean(products), rel=1e-12)


def test_survival_keeps_its_digits_where_positions_are_many_and_factors_huge() -> None:
    # one hit of weight 10 among 15 draws, each of which stands for 66,666 positions
    terms = np.zeros(15)
    terms[3] = 1e-4
    draws = WeightedDraws(terms=terms, positions=999_999, chance=15 / 999_999)
    times = np.array([0, 1, 1000, 999_999])
    # a single factor: 1 - P(its position is at most t) X / r
    expected = 1 - times / 999_999 * 1e-4 * 999_999 / 15
    np.testing.assert_allclose(draws.survival(times), expected, rtol=1e-7)
    many = WeightedDraws(terms=np.full(400, 1e3), positions=5000, chance=0.1)
    assert np.isfinite(many.survival([0, 1])).all()


def test_no_draws_say_nothing_and_times_beyond_the_positions_are_refused() -> None:
    draws = WeightedDraws(terms=np.empty(0), positions=9, chance=0.1)
    assert draws.survival([0, 9]).tolist() == [1.0, 1.0]
    with pytest.raises(UsageError, match=r"times must lie in 0 \.\. 9"):
        draws.survival([10])
    with pytest.raises(UsageError, match="give one of each"):
        WeightedCurve(prompts=[draws], p_hat=np.array([0.1, 0.2]))


def population(
    rng: np.random.Generator, n: int, draws: float, longest: int = 20_000
) -> tuple[WeightedCurve, np.ndarray]:
    """Risks of five decades, noisy predictions, weighted draws of which 3 in 10 hit."""
    p = 10 ** rng.uniform(-6, -1.2, n)
    q = np.minimum(p * np.exp(rng.normal(0, 0.7, n)), 0.5)
    positions, chance = planned_positions(q, draws, longest=longest)
    sizes = rng.binomial(positions, chance)
    rows = []
    for risk, size, places, each in zip(p, sizes, positions, chance, strict=True):
        hits = rng.random(size) < 0.3
        terms = np.where(hits, risk / 0.3 * np.exp(rng.normal(-0.245, 0.7, size)), 0.0)
        rows.append(WeightedDraws(terms=terms, positions=int(places), chance=float(each)))
    return WeightedCurve(prompts=rows, p_hat=q, longest=longest), p


def test_the_curve_covers_far_beyond_the_draws() -> None:
    """Eight calibrations of 150 prompts, 8 draws each: sd of the mean about .004."""
    coverage, longest = [], []
    for seed in range(8):
        curve, _ = population(np.random.default_rng(seed), 150, 8)
        assert sum(one.terms.size for one in curve.prompts) < 150 * 9
        (level,) = curve.first_crossings([0.1])
        bounds = np.minimum(quantile(curve.p_hat, level), curve.longest)
        new = np.random.default_rng(1000 + seed)
        other = 10 ** new.uniform(-6, -1.2, 4000)
        q = np.minimum(other * np.exp(new.normal(0, 0.7, 4000)), 0.5)
        held = np.minimum(quantile(q, level), curve.longest)
        coverage.append(np.exp((held - 1) * np.log1p(-other)).mean())
        longest.append(bounds.max())
    print(f"coverage {np.mean(coverage):.4f}, sd {np.std(coverage):.4f}")
    assert abs(np.mean(coverage) - 0.9) < 0.016
    assert np.std(coverage) < 0.03
    assert min(longest) > 10_000


def test_crossings_fall_with_alpha_and_are_where_the_curve_is_alpha() -> None:
    curve, _ = population(np.random.default_rng(0), 100, 8)
    levels = curve.first_crossings([0.2, 0.1, 0.02])
    assert levels == sorted(levels, reverse=True)
    np.testing.assert_allclose(curve.miscoverage(levels), [0.2, 0.1, 0.02], rtol=0.01)
    nothing = WeightedCurve(
        prompts=[WeightedDraws(terms=np.zeros(3), positions=9, chance=0.3)] * 4,
        p_hat=np.full(4, 0.2),
    )
    assert nothing.first_crossings([0.1]) == [nothing.max_level]


def test_what_a_curve_rests_on() -> None:
    curve, _ = population(np.random.default_rng(3), 100, 8)
    (level,) = curve.first_crossings([0.1])
    found = examine(curve, level, 0.1)
    assert found.miscoverage == pytest.approx(0.1, rel=0.01)
    assert found.interval[0] < found.miscoverage < found.interval[1]
    assert found.hits == sum(int((one.terms > 0).sum()) for one in curve.prompts)
    assert found.level_without_it >= level
    kept = [one.coverage for one in found.if_missed]
    assert kept == sorted(kept, reverse=True)
    # A share s missed: the true miscoverage at the level is that of risks p / (1 - s).
    short = [
        WeightedDraws(terms=one.terms * 0.8, positions=one.positions, chance=one.chance)
        for one in curve.prompts
    ]
    missing = WeightedCurve(prompts=short, p_hat=curve.p_hat, longest=curve.longest)
    (longer,) = missing.first_crossings([0.1])
    said = examine(missing, longer, 0.1).if_missed[1]
    assert said.share == 0.2
    assert said.coverage == pytest.approx(1 - curve.miscoverage([longer])[0], abs=0.004)
