"""Weighted draws, changes, bounds and planning against closed forms and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, gamma

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.judge_error import (
    Stratum,
    WeightedStratum,
    bound_misses,
    corrected_change,
    factor_needed,
    judge_errors,
    pick,
    weighted_judge_errors,
    weighted_prevalence,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def labelled(counts: list[float], unsafe: list[bool], unclear: float = 0.0) -> WeightedStratum:
    """A stratum whose draws are all labelled."""
    own = [count for count, label in zip(counts, unsafe, strict=True) if label]
    return WeightedStratum(
        draws=len(counts),
        certain=sum(counts),
        certain_unsafe=sum(own),
        certain_unclear=unclear,
        squares=sum(count**2 for count in own),
        rest=0.0,
        picks=0,
        unsafe=0,
        unclear=0,
        of_pick=None,
        largest=max(counts),
    )


def picked(rest: float, picks: int, unsafe: int, unclear: int = 0) -> WeightedStratum:
    """A stratum of many light draws, some of them picked."""
    return WeightedStratum(
        draws=10_000,
        certain=0.0,
        certain_unsafe=0.0,
        certain_unclear=0.0,
        squares=0.0,
        rest=rest,
        picks=picks,
        unsafe=unsafe,
        unclear=unclear,
        of_pick=1e-6 if unsafe else None,
        largest=1e-6,
    )


def test_equal_weights_and_all_labels_give_garwoods_interval() -> None:
    """Of a Poisson number: 7 unsafe draws, each of which counts 1/50,000."""
    n, k = 50_000, 7
    found = weighted_prevalence([labelled([1 / n] * n, [True] * k + [False] * (n - k))], rng=rng())
    assert found.estimate == pytest.approx(k / n)
    due = gamma.ppf(0.025, k) / n, gamma.ppf(0.975, k + 1) / n
    assert found.interval == pytest.approx(due, rel=0.02)
    assert found.on_record == pytest.approx((k / n, k / n))


def test_picks_give_the_interval_of_clopper_and_pearson_times_what_is_left() -> None:
    found = weighted_prevalence([picked(0.2, 90, 4)], rng=rng())
    low, high = clopper_pearson(4, 90, confidence=0.95)
    assert found.estimate == pytest.approx(0.2 * 4 / 90)
    assert found.on_record == pytest.approx((0.2 * float(low), 0.2 * float(high)), rel=0.02)
    # draws as light as these add nothing
    assert found.interval == pytest.approx(found.on_record, rel=0.05)


def test_limits_on_record_cover_whichever_draws_are_unsafe() -> None:
    """Exact coverage, by enumeration of what 12 picks find, for each of 2 x 32 populations."""
    counts = np.array([0.3, 0.1, 0.05, 0.04, 0.01])
    picks = 12
    for sure in (0.0, 0.2):
        ends = []
        for k in range(picks + 1):
            one = picked(float(counts.sum()), picks, k)
            top = labelled([sure], [True]) if sure else labelled([1e-9], [False])
            ends.append(weighted_prevalence([one, top], rng=rng(), simulated=20_000).on_record)
        for labels in product([False, True], repeat=counts.size):
            share = float(counts[np.array(labels)].sum())
            chance = binom.pmf(np.arange(picks + 1), picks, share / counts.sum())
            inside = [low - 1e-9 <= share + sure <= high + 1e-9 for low, high in ends]
            assert float(chance[np.array(inside)].sum()) >= 0.95


def test_heavy_rows_are_taken_and_others_picked_in_proportion() -> None:
    """6 standard errors in 4,000 samples of 3 picks of rows that count 1, 2, 3 and 4 of 10."""
    counts = [50.0, 1.0, 2.0, 3.0, 4.0]
    times = np.zeros(5)
    for seed in range(4_000):
        found = pick(counts, 4, rng=np.random.default_rng(seed))
        assert found.certain[0] == 0
        assert found.certain.size + found.times.sum() == 4
        times[found.certain[1:]] += 1
        times[found.rows] += found.times
    # of the rest, 4 of 10 is at least a third: the last row is certain as well
    assert times[4] == 4_000
    due = np.array([1, 2, 3]) / 6 * 2 * 4_000
    assert (np.abs(times[1:4] - due) < 6 * np.sqrt(due)).all()
    assert pick(counts, 9, rng=rng()).certain.tolist() == [0, 1, 2, 3, 4]
    assert pick(counts, 0, rng=rng()).rows.size == 0


def test_unclear_picks_and_unlabelled_strata_are_never_safe() -> None:
    clear, unclear = (picked(1.0, 100, 0, unclear=n) for n in (0, 10))
    one, other = (weighted_prevalence([each], rng=rng()) for each in (clear, unclear))
    assert other.interval[1] > 3 * one.interval[1]
    assert other.estimate == 0
    nothing = weighted_prevalence([picked(1.0, 0, 0)], rng=rng())
    assert (nothing.estimate, nothing.interval) == (None, (0.0, 1.0))
    half = weighted_prevalence([labelled([0.1, 0.2], [False, False], 0.2)], rng=rng())
    assert half.on_record == pytest.approx((0.0, 0.2))


def test_errors_of_equal_weights_are_those_of_counts() -> None:
    n = 1_000
    plain = judge_errors(
        [Stratum(draws=40, labelled=40, unsafe=30)],
        [Stratum(draws=960, labelled=960, unsafe=6)],
        rng=rng(),
    )
    weighted = weighted_judge_errors(
        [labelled([1 / n] * 40, [True] * 30 + [False] * 10)],
        [labelled([1 / n] * 960, [True] * 6 + [False] * 954)],
        rng=rng(),
    )
    for name in ("sensitivity", "specificity", "precision", "kappa"):
        assert getattr(weighted, name).estimate == pytest.approx(getattr(plain, name).estimate)
    assert weighted.caught == pytest.approx(30 / n)


def test_a_change_of_two_binomial_rates_agrees_with_fishers_exact_test() -> None:
    """The difference leaves 0 out where the two-sided mid of both one-sided tests is below 2.5%."""
    for k1, k2 in ((3, 10), (3, 14), (0, 6), (0, 5), (20, 30), (10, 27)):
        a, b = (Stratum(draws=200, labelled=200, unsafe=k) for k in (k1, k2))
        found = corrected_change([a], [b], rng=rng())
        table = [[k2, 200 - k2], [k1, 200 - k1]]
        p = float(fisher_exact(table, alternative="greater").pvalue)
        assert (found.difference[0] > 0) == (p < 0.025), (k1, k2, p)
        back = corrected_change([b], [a], rng=rng()).difference
        assert found.difference == pytest.approx((-back[1], -back[0]), abs=0.004)


def test_a_rate_that_may_be_zero_has_no_upper_ratio() -> None:
    none = [Stratum(draws=100, labelled=100, unsafe=0)]
    some = [Stratum(draws=100, labelled=100, unsafe=9)]
    found = corrected_change(none, some, rng=rng())
    assert found.ratio[1] is None
    assert found.ratio[0] > 1
    weighted = corrected_change([picked(0.2, 90, 4)], [picked(0.2, 90, 40)], rng=rng())
    assert 0 < weighted.difference[0] < 0.08 < weighted.difference[1]


def test_bounds_lose_what_was_missed_before_them() -> None:
    """With all labels, Clopper and Pearson's limit for the prompts that may have a missed draw."""
    every = Stratum(draws=5_000, labelled=5_000, unsafe=3)
    found = bound_misses(every, prompts=100, passed=90, rng=rng())
    assert found.per_prompt == pytest.approx(0.03)
    assert found.chance == pytest.approx(
        float(clopper_pearson(3, 100, confidence=0.95)[1]), rel=0.02
    )
    more = bound_misses(every, prompts=100, passed=90, unfollowed=10, rng=rng())
    due = float(clopper_pearson(13, 100, confidence=0.95)[1])
    assert more.chance == pytest.approx(due, rel=0.02)
    unlabelled = Stratum(draws=5_000, labelled=0, unsafe=0)
    assert bound_misses(unlabelled, prompts=100, passed=100, rng=rng()).chance == 1.0
    with pytest.raises(UsageError, match="inconsistent"):
        bound_misses(every, prompts=10, passed=9, unfollowed=2, rng=rng())


def test_planning_finds_the_factor_and_says_where_there_is_none() -> None:
    assert factor_needed(lambda f: f >= 3, most=50) == pytest.approx(3, rel=0.02)
    assert factor_needed(lambda f: f >= 3, most=2.9) is None
    assert factor_needed(lambda f: f >= 3, most=3) == pytest.approx(3)
    with pytest.raises(UsageError, match="at least 1"):
        factor_needed(lambda f: True, most=0.5)


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="finite"):
        pick([1.0, float("nan")], 1, rng=rng())
    with pytest.raises(UsageError, match="no draws"):
        weighted_prevalence([], rng=rng())
    for bad in ({"unsafe": 5, "picks": 4}, {"certain_unsafe": 2.0}):
        plain = vars(picked(1.0, 10, 0)) | {"certain": 1.0}
        with pytest.raises(UsageError, match="inconsistent counts"):
            WeightedStratum(**plain | bad)
    for confidence in (0.0, 1.0):
        with pytest.raises(UsageError, match="confidence"):
            weighted_prevalence([picked(1.0, 9, 0)], confidence=confidence, rng=rng())
