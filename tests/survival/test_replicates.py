"""Replicates: what is left of a budget buys further independent times of each prompt."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from populations import Observed, population, true_coverage

from sizes import size
from tailbound.errors import UsageError
from tailbound.survival import (
    calibrate,
    calibrate_by_group,
    calibrate_with_record,
    weighted_prompts,
)
from tailbound.survival.replicates import MOST, Replicate, affordable_replicates
from tailbound.survival.rules import (
    Binomial,
    WeightedSum,
    binomial_allowance,
    calibrated_level,
)


def risky(n: int, rng: np.random.Generator, *, useless: bool = False):
    """(risk, p_hat) of n prompts whose bounds take about 25 of the 100 draws that are planned."""
    risk = 10 ** rng.uniform(-3, -1, n)
    noise = np.exp(rng.normal(0, 0.3, n))
    return risk, np.clip(np.full(n, 0.02) if useless else risk * noise, 1e-12, 0.999)


def never(indices: np.ndarray, horizons: np.ndarray) -> np.ndarray:
    return np.zeros(len(indices), dtype=np.int64)


@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
@pytest.mark.parametrize("design", ["balanced", "optimized", "trimmed"])
def test_where_nothing_is_left_of_the_budget_everything_is_as_without_replicates(design, guarantee):
    rng = np.random.default_rng(1)
    people = population(500, "good", rng)
    times = rng.geometric(np.tile(people.risk, MOST))
    found = [
        calibrate_with_record(
            *(people.p_hat, Observed(times)),
            budget=8 if design == "balanced" else 1,
            design=design,
            guarantee=guarantee,
            reference_p_hat=people.p_hat,
            replicates=most,
            rng=3,
        )
        for most in (1, None)
    ]
    assert found[0][0] == found[1][0]
    assert found[0][0].replicates == 1
    for name in ("indices", "copies", "weights", "horizons", "first_event", "levels"):
        np.testing.assert_array_equal(getattr(found[0][1], name), getattr(found[1][1], name))


@pytest.mark.parametrize("guarantee", ["plug-in", "marginal"])
@pytest.mark.parametrize("design", ["balanced", "optimized", "trimmed"])
def test_there_are_as_many_as_the_forecast_pays_for_whatever_comes_out(design, guarantee):
    rng = np.random.default_rng(2)
    risk, p_hat = risky(2000, rng)
    reference = risky(2000, rng)[1]
    shared = {
        "budget": 100, "design": design, "guarantee": guarantee, "reference_p_hat": reference,
        "rng": 0,
    }  # fmt: skip
    bound = calibrate(p_hat, Observed(rng.geometric(np.tile(risk, 8))), replicates=8, **shared)
    assert 2 <= bound.replicates < 8
    assert bound.planned <= 100 * 2000
    assert bound.spent <= 1.05 * bound.planned
    assert bound.n_calibration == 2000
    assert bound.n_selected <= 2000
    nobody = calibrate(p_hat, never, replicates=8, **shared)
    everybody = calibrate(p_hat, Observed(np.ones(16_000, dtype=np.int64)), replicates=8, **shared)
    assert nobody.replicates == everybody.replicates == bound.replicates
    assert calibrate(p_hat, never, replicates=2, **shared).replicates == 2


def test_copies_that_say_the_same_count_as_one_prompt():
    """With T the same in all copies, everything is as with one copy: the prompt is what counts."""
    rng = np.random.default_rng(4)
    risk, p_hat = risky(1000, rng)
    times = rng.geometric(risk)
    for guarantee in ("plug-in", "marginal"):
        shared = {"budget": 200, "guarantee": guarantee, "reference_p_hat": p_hat, "rng": 0}
        one = calibrate(p_hat, Observed(times), **shared)
        four = calibrate(p_hat, Observed(np.tile(times, 4)), replicates=4, **shared)
        assert four.replicates == 4
        assert (four.level, four.cap) == (one.level, one.cap)
        assert four.miscoverage == pytest.approx(one.miscoverage)
        assert four.spent == 4 * one.spent
        assert four.weight_bound == one.weight_bound


#: Two kinds of prompts: share, pi, and chances of an event at level .2, at .5, and of none.
_KINDS = ((0.7, 1.0, (0.05, 0.1, 0.85)), (0.3, 0.5, (0.5, 0.3, 0.2)))
_LEVELS = (0.2, 0.5)


def _missed(level: float) -> float:
    return sum(
        share * sum(chance for chance, u in zip(chances, _LEVELS, strict=False) if u < level)
        for share, _, chances in _KINDS
    )


def _prompt_outcomes(r: int):
    """(probability, events at .2, events at .5, weight of each) of one prompt with r copies."""
    for share, pi, (early, late, _) in _KINDS:
        a, b = pi * early, pi * late
        for i, j in itertools.product(range(r + 1), repeat=2):
            if i + j <= r:
                ways = math.factorial(r) / math.factorial(i) / math.factorial(j)
                ways /= math.factorial(r - i - j)
                yield share * ways * a**i * b**j * (1 - a - b) ** (r - i - j), i, j, 1 / pi / r


@pytest.mark.parametrize("alpha", [0.25, 0.4, 0.5])
@pytest.mark.parametrize(("n", "r"), [(5, 2), (4, 3)])
def test_the_expected_miscoverage_with_replicates_is_controlled_exactly(n, r, alpha):
    """All outcomes of n prompts with r dependent copies each, in a model of two kinds."""
    rule = WeightedSum(alpha * (n + 1) - 2.0, prompts_needed=1, to_the_next_event=True)
    kinds, total, risk = list(_prompt_outcomes(r)), 0.0, 0.0
    for held in itertools.combinations_with_replacement(range(len(kinds)), n):
        chance = float(math.factorial(n))
        for kind in set(held):
            chance *= kinds[kind][0] ** held.count(kind) / math.factorial(held.count(kind))
        u, w = [], []
        for _, early, late, weight in (kinds[kind] for kind in held):
            u += [_LEVELS[0]] * early + [_LEVELS[1]] * late
            w += [weight] * (early + late)
        level, _ = calibrated_level(np.array(u), np.array(w), rule, max_level=0.95)
        total, risk = total + chance, risk + chance * _missed(level)
    assert total == pytest.approx(1.0)
    assert risk <= alpha + 1e-12


def test_the_largest_loss_of_a_prompt_is_not_divided_by_the_replicates():
    """With T a function of the prompt, level j of n has the expected miscoverage j / (n + 1).

    Paying 1 / r for the prompt that was not seen, as if its copies could not all be unsafe, ends
    one event late: .2 where .15 was to hold.
    """
    n, r, alpha = 9, 2, 0.15
    u = np.sort(np.random.default_rng(0).random(n)) * 0.9
    events, weights = np.repeat(u, r), np.full(n * r, 1 / r)
    risk = []
    for largest in (1.0, 1.0 / r):
        rule = WeightedSum(alpha * (n + 1) - largest, prompts_needed=1, to_the_next_event=True)
        level, _ = calibrated_level(events, weights, rule, max_level=0.95)
        risk.append((1 + int(np.flatnonzero(u == level)[0])) / (n + 1))
    assert risk[0] <= alpha < risk[1]


def test_copies_counted_as_prompts_break_pac_and_are_refused():
    """Prompts that are unsafe at once or never: r copies of 100 prompts are not 100 r prompts."""
    from scipy.stats import binom

    n, r, alpha, delta, share = 100, 10, 0.1, 0.1, 0.1001
    right = binomial_allowance(n, alpha, delta)
    wrong = binomial_allowance(n * r, alpha, delta)
    assert binom.cdf(right, n, share) <= delta  # at most so many unsafe prompts
    assert binom.cdf(wrong // r, n, share) > 3 * delta  # r events each
    unsafe = np.arange(n) < wrong // r
    events = np.repeat(np.full(unsafe.sum(), 0.01), r)
    as_prompts = Binomial(n=n * r, followed=n * r, alpha=alpha, delta=delta)
    assert calibrated_level(events, np.ones(len(events)), as_prompts, max_level=0.9)[0] == 0.9
    with pytest.raises(UsageError, match="'pac' takes no replicates, not 2"):
        calibrate(np.full(n, 0.01), never, budget=100, guarantee="pac", replicates=2)
    assert calibrate(np.full(n, 0.01), never, budget=100, guarantee="pac", replicates=None)


def test_what_takes_no_replicates_says_so():
    p_hat = np.full(100, 0.01)
    naive = {"budget": 50, "guarantee": "plug-in", "design": "naive"}
    with pytest.raises(UsageError, match="the naive design takes no replicates"):
        calibrate(p_hat, never, replicates=3, **naive)
    assert calibrate(p_hat, never, replicates=None, **naive).replicates == 1
    with pytest.raises(UsageError, match="replicates must be at least 1, not 0"):
        calibrate(p_hat, never, budget=50, replicates=0)


def test_how_many_are_affordable():
    one = Replicate(draws=10.0, event_weight=4.0)
    shared = {"n": 1000, "budget": 100, "alpha": 0.1, "asked": None}
    assert affordable_replicates(one, guarantee="plug-in", **shared) == MOST
    # 1 - 1 / r of a weight of 4 is to be at most .05 alpha (n + 1) = 5.005: any r; of 10: half
    assert affordable_replicates(one, guarantee="marginal", **shared) == MOST
    heavy = Replicate(draws=10.0, event_weight=10.0)
    assert affordable_replicates(heavy, guarantee="marginal", **shared) == 2
    assert affordable_replicates(heavy, guarantee="marginal", **{**shared, "asked": 5}) == 5
    dear = Replicate(draws=60.0, event_weight=1.0)
    assert affordable_replicates(dear, guarantee="plug-in", **shared) == 1
    limited = affordable_replicates(one, guarantee="plug-in", max_draws=50, **shared)
    assert limited == 4


def test_a_hard_limit_on_draws_holds_for_all_copies():
    rng = np.random.default_rng(5)
    risk, p_hat = risky(500, rng)
    seen = Observed(rng.geometric(np.tile(risk / 20, 10)))  # far safer than predicted
    bound = calibrate(p_hat, seen, budget=100, replicates=None, max_draws=120, rng=0)
    assert bound.replicates > 1
    assert bound.spent == seen.draws <= 120 * 500


def test_groups_and_prompts_set_aside_keep_copies_apart():
    """Who is asked for in copy c is asked under c n + i, n being all prompts that there are."""
    rng = np.random.default_rng(6)
    risk, p_hat = risky(600, rng)
    groups, r = np.arange(600) % 2, 3
    seen = Observed(rng.geometric(np.tile(risk, r)))
    found = calibrate_by_group(
        *(p_hat, groups, seen), names=("even", "odd"), budget=120, replicates=r, rng=0
    )  # a tenth of each group is set aside
    assert [bound.replicates for bound in found.bound.bounds] == [r, r]
    asked = np.flatnonzero(seen.reached)
    held = np.concatenate(
        [
            record.copies * 600 + members[record.indices]
            for members, record in zip(found.members, found.records, strict=True)
        ]
    )
    assert set(asked.tolist()) <= set(held.tolist())
    assert sum(bound.spent for bound in found.bound.bounds) == seen.draws
    assert found.bound.smallest.replicates == r
    for record in found.records:  # the set aside are the same in every copy
        assert len(np.unique(record.indices)) == 270


def test_event_rates_take_prompts_as_clusters():
    rng = np.random.default_rng(7)
    first = rng.integers(0, 6, (3, 40))
    weights = rng.choice([0.0, 2.0], (3, 40))
    unit = np.broadcast_to(np.arange(40), (3, 40))
    copies = weighted_prompts(
        *(first.ravel(), np.full(120, 5), weights.ravel()), units=unit.ravel(), weight_bound=2.0
    )
    assert len(copies) == 40
    for k in (1, 3, 5, 9):
        each = [weighted_prompts(f, np.full(40, 5), w) for f, w in zip(first, weights, strict=True)]
        for name in ("unsafe", "maybe", "unsafe_draws", "maybe_draws"):
            mean = np.mean([getattr(one, name)(k) for one in each], axis=0)
            np.testing.assert_allclose(getattr(copies, name)(k), mean)
    with pytest.raises(UsageError, match="units has shape"):
        weighted_prompts([1, 0], [5, 5], [1.0, 1.0], units=[0])


@pytest.mark.slow
@pytest.mark.parametrize("guarantee", ["plug-in", "marginal"])
@pytest.mark.parametrize("useless", [False, True])
def test_four_replicates_halve_the_spread_of_the_coverage(guarantee, useless):
    """1,000 prompts that take about 25 of 125 planned draws: coverage with 1 and 4 times of each.

    Over 120 calibrations the mean has a standard error of about .0009 with one time (.0004 with
    four) and the ratio of two standard deviations, about .5, one of 9 % of itself. A mean below .9
    by three of its standard errors, or a ratio so far off, would come up once in 700 seeds; the
    seeds are fixed. With useless predictions which prompts there are decides, and less is gained.
    """
    repeats = size(120, 1000)
    found = {}
    for r in (1, 4):
        rng = np.random.default_rng(8)
        test_risk, test_p_hat = risky(20_000, rng, useless=useless)
        coverage, spent = [], []
        for _ in range(repeats):
            risk, p_hat = risky(1000, rng, useless=useless)
            bound = calibrate(
                *(p_hat, Observed(rng.geometric(np.tile(risk, r)))),
                budget=125,
                guarantee=guarantee,
                replicates=r,
                reference_p_hat=risky(1000, rng, useless=useless)[1],
                rng=rng,
            )
            assert bound.replicates == r
            coverage.append(true_coverage(bound.predict(test_p_hat), test_risk))
            spent.append(bound.spent / 1000)
        found[r] = np.mean(coverage), np.std(coverage, ddof=1), np.mean(spent)
        # L is whole: a useless prediction gives every prompt the same one, at most .9 + P(T = L)
        assert 0.9 - 3 * found[r][1] / math.sqrt(repeats) <= found[r][0]
        assert found[r][0] <= (0.94 if useless else 0.91)
        assert found[r][2] <= 125
    ratio = found[4][1] / found[1][1]
    assert ratio <= (1.05 if useless else 0.65)
