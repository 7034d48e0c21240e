"""Judge error against closed forms and enumeration: allocation, prevalence, kappa."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import hypergeom

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.judge_error import Stratum, allocate, draw_sample, judge_errors, prevalence


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def stratum(draws: int, labelled: int, unsafe: int, unclear: int = 0) -> Stratum:
    return Stratum(draws=draws, labelled=labelled, unsafe=unsafe, unclear=unclear)


@pytest.mark.parametrize(("draws", "labelled", "unsafe"), [(400, 400, 7), (9_000, 60, 3)])
def test_one_stratum_gives_the_interval_of_clopper_and_pearson(
    draws: int, labelled: int, unsafe: int
) -> None:
    """Of the labels where some draws have none, else of all draws."""
    found = prevalence([stratum(draws, labelled, unsafe)], rng=rng())
    low, high = clopper_pearson(unsafe, labelled, confidence=0.95)
    assert found.estimate == pytest.approx(unsafe / labelled)
    assert found.interval == pytest.approx((float(low), float(high)), rel=0.02)


def test_none_and_all_unsafe_have_closed_ends() -> None:
    none = prevalence([stratum(500, 100, 0)], rng=rng())
    assert none.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 100), rel=0.02))
    every = prevalence([stratum(500, 100, 100)], rng=rng())
    assert every.interval == (pytest.approx(0.025 ** (1 / 100), rel=0.02), 1.0)


def test_limits_on_record_are_those_of_the_hypergeometric_distribution() -> None:
    draws, labelled, unsafe = 80, 25, 4
    found = prevalence([stratum(draws, labelled, unsafe)], rng=rng())
    every = np.arange(draws + 1)
    possible = every[
        (hypergeom.cdf(unsafe, draws, every, labelled) > 0.025)
        & (hypergeom.sf(unsafe - 1, draws, every, labelled) > 0.025)
    ]
    assert found.on_record == (possible.min() / draws, possible.max() / draws)


def test_the_interval_on_record_covers_in_every_population_of_two_strata() -> None:
    """Exact coverage, by enumeration of all labels, for each of 7 x 31 populations."""
    sizes, labels = (6, 30), (3, 10)
    ends = {
        (k1, k0): prevalence(
            [stratum(sizes[0], labels[0], k1), stratum(sizes[1], labels[1], k0)],
            rng=rng(),
            simulated=20_000,
        ).on_record
        for k1 in range(labels[0] + 1)
        for k0 in range(labels[1] + 1)
    }
    least = 1.0
    for m1 in range(sizes[0] + 1):
        for m0 in range(sizes[1] + 1):
            share = (m1 + m0) / sum(sizes)
            covered = sum(
                hypergeom.pmf(k1, sizes[0], m1, labels[0])
                * hypergeom.pmf(k0, sizes[1], m0, labels[1])
                for (k1, k0), (low, high) in ends.items()
                if low - 1e-9 <= share <= high + 1e-9
            )
            least = min(least, float(covered))
    assert least >= 0.95


def test_missing_labels_widen_both_ends_and_are_never_safe() -> None:
    clear = prevalence([stratum(1_000, 90, 0)], rng=rng())
    unclear = prevalence([stratum(1_000, 90, 0, 10)], rng=rng())
    assert unclear.estimate == 0
    assert unclear.interval[1] > clopper_pearson(10, 100, confidence=0.95)[1] * 0.98
    assert unclear.interval[1] > 3 * clear.interval[1]
    some = prevalence([stratum(1_000, 90, 30, 10)], rng=rng())
    assert some.interval[0] == pytest.approx(
        float(clopper_pearson(30, 100, confidence=0.95)[0]), rel=0.02
    )


def test_a_stratum_without_labels_is_unknown_not_safe() -> None:
    found = prevalence([stratum(90, 90, 9), stratum(10, 0, 0)], rng=rng())
    assert (found.estimate, found.unlabelled) == (0.1, 10)
    assert found.on_record == (0.09, 0.19)
    nothing = prevalence([stratum(10, 0, 0)], rng=rng())
    assert (nothing.estimate, nothing.interval) == (None, (0.0, 1.0))


def test_kappa_of_a_full_table_is_cohens() -> None:
    """Cohen's definition: (observed - expected) / (1 - expected)."""
    positive, negative = stratum(40, 40, 30), stratum(60, 60, 6)
    found = judge_errors([positive], [negative], rng=rng())
    observed = (30 + 54) / 100
    expected = 0.4 * 0.36 + 0.6 * 0.64
    assert found.kappa.estimate == pytest.approx((observed - expected) / (1 - expected))
    assert found.kappa.interval == pytest.approx((found.kappa.estimate,) * 2)
    assert found.sensitivity.estimate == pytest.approx(30 / 36)
    assert found.specificity.estimate == pytest.approx(54 / 64)
    assert (found.missed, found.false_alarms) == (6, 10)


def test_counts_are_weighted_back_to_all_draws() -> None:
    found = judge_errors([stratum(100, 50, 20)], [stratum(9_900, 100, 1)], rng=rng())
    assert (found.caught, found.missed, found.false_alarms) == (40, 99, 60)
    assert found.sensitivity.estimate == pytest.approx(40 / 139)
    for one in (found.sensitivity, found.specificity, found.precision, found.kappa):
        assert one.estimate is not None
        assert one.interval[0] < one.estimate < one.interval[1]


def test_kappa_rises_with_hits_and_falls_with_misses() -> None:
    """What its interval rests on, on a grid of sizes, also where most draws are positive."""
    for n1, n0 in ((5, 20), (20, 5), (7, 7)):
        table = np.array(
            [
                [
                    judge_errors(
                        [stratum(n1, n1, m1)], [stratum(n0, n0, m0)], rng=rng(), simulated=1
                    ).kappa.estimate
                    for m0 in range(n0 + 1)
                ]
                for m1 in range(1, n1)
            ],
            dtype=float,
        )
        assert (np.diff(table, axis=0) > -1e-12).all()
        assert (np.diff(table, axis=1) < 1e-12).all()


def test_undefined_is_not_zero() -> None:
    found = judge_errors([stratum(0, 0, 0)], [stratum(50, 50, 0)], rng=rng())
    assert (found.sensitivity.estimate, found.precision.estimate) == (None, None)
    assert found.sensitivity.interval == (0.0, 1.0)
    unlabelled = judge_errors([stratum(5, 5, 1)], [stratum(50, 0, 0)], rng=rng())
    assert (unlabelled.missed, unlabelled.kappa.estimate) == (None, None)


def test_samples_are_random_in_each_stratum() -> None:
    """Each of 12 rows of a stratum is drawn 4 times in 12: 6 standard errors in 3,000 samples."""
    strata = np.repeat([0, 1], [12, 3])
    seen = np.zeros(15)
    for seed in range(3_000):
        rows = draw_sample(strata, [4, 3], rng=np.random.default_rng(seed))
        assert len(set(rows.tolist())) == 7
        seen[rows] += 1
    assert (seen[12:] == 3_000).all()
    assert np.abs(seen[:12] / 3_000 - 1 / 3).max() < 6 * np.sqrt(2 / 9 / 3_000)


def test_allocation_is_proportional_and_leaves_no_stratum_out() -> None:
    assert allocate([1_000, 1, 1], 10) == [8, 1, 1]
    assert sum(allocate([333, 333, 334], 100)) == 100
    assert allocate([], 5) == []


@pytest.mark.parametrize(
    "counts", [(5, 6, 0, 0), (5, 3, 4, 0), (5, 3, 1, 3), (-1, 0, 0, 0), (5, 3, -1, 0)]
)
def test_inconsistent_counts_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="inconsistent counts"):
        stratum(*counts)
    with pytest.raises(UsageError, match="no draws"):
        prevalence([], rng=rng())
    with pytest.raises(UsageError, match="confidence"):
        prevalence([stratum(1, 1, 0)], confidence=1, rng=rng())
    with pytest.raises(UsageError, match="has 1 rows"):
        draw_sample([0], [2], rng=rng())
