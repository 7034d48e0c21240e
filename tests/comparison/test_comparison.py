"""Exact tests, lists and intervals of changes, against other libraries and exact enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tailbound.comparison import (
    benjamini_hochberg,
    draw_by_draw,
    e_benjamini_hochberg,
    exact_p_values,
    log_ratio_p_values,
    mean_change,
    paired_e_values,
)
from tailbound.errors import UsageError


@settings(deadline=None, max_examples=200)
@given(n=st.integers(1, 300), m=st.integers(1, 300), data=st.data())
def test_fishers_test_is_that_of_scipy(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    expected = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
    assert exact_p_values([a], [n], [b], [m])[0] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_rows_are_answered_in_their_own_order() -> None:
    rng = np.random.default_rng(0)
    n, m = rng.integers(1, 50, 200), rng.integers(1, 50, 200)
    a, b = rng.binomial(n, 0.2), rng.binomial(m, 0.3)
    alone = [float(exact_p_values([a[i]], [n[i]], [b[i]], [m[i]])[0]) for i in range(200)]
    assert exact_p_values(a, n, b, m).tolist() == alone


@given(lost_a=st.integers(0, 5), lost_b=st.integers(0, 5), b=st.integers(0, 15))
def test_missing_verdicts_are_never_evidence(lost_a: int, lost_b: int, b: int) -> None:
    """No way of filling them in gives a larger p-value."""
    found = exact_p_values([2], [20], [b], [20], missing_a=[lost_a], missing_b=[lost_b])[0]
    every = [
        exact_p_values([2 + x], [20], [b + y], [20])[0]
        for x, y in product(range(lost_a + 1), range(lost_b + 1))
    ]
    assert found == pytest.approx(max(every))


@pytest.mark.parametrize(
    "counts", [(-1, 5, 0, 5), (6, 5, 0, 5), (0, 0, 0, 5), (0.5, 5, 0, 5)], ids=str
)
def test_counts_that_cannot_be_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="counts"):
        exact_p_values(*([one] for one in counts))


@given(st.lists(st.floats(0, 1), max_size=40))
def test_adjusted_p_values_are_those_of_scipy(p: list[float]) -> None:
    expected = stats.false_discovery_control(p) if p else np.array([])
    assert benjamini_hochberg(p) == pytest.approx(expected)


@given(st.lists(st.integers(0, 500), max_size=40), st.sampled_from([2, 10, 20]))
def test_the_list_by_e_values_is_the_one_defined(e: list[int], one_in: int) -> None:
    """The k largest, for the largest k whose k-th is at least m / (q k)."""
    ordered = sorted(e, reverse=True)
    k = max((i for i, one in enumerate(ordered, 1) if one * i >= len(e) * one_in), default=0)
    found = e_benjamini_hochberg([float(one) for one in e]) <= 1 / one_in
    assert found.tolist() == [k > 0 and one >= ordered[k - 1] for one in e]


@pytest.mark.parametrize("theta", [0.0, 0.01, 0.3, 0.9, 1.0])
def test_e_values_have_mean_at_most_one(theta: float) -> None:
    """Exactly, over all 4^4 outcomes of four pairs with equal probabilities."""
    outcomes = np.array(list(product([0.0, 1.0], repeat=8)))
    chance = (theta**outcomes * (1 - theta) ** (1 - outcomes)).prod(axis=1)
    e = paired_e_values(outcomes[:, :4], outcomes[:, 4:])
    assert chance @ e <= 1 + 1e-12
    # the probability of a large one is small, and some are large: the test could fail
    assert e.max() > 2


def test_e_values_need_draws_that_are_not_negatively_dependent() -> None:
    """The exact expectation after two pairs, with both draws of a pair from one uniform number."""
    theta = 0.3

    def expected(pairs: dict[tuple[int, int], float]) -> float:
        return sum(
            pairs[one] * pairs[two]
            * float(paired_e_values([[one[0], two[0]]], [[one[1], two[1]]])[0])
            for one, two in product(pairs, repeat=2)
        )  # fmt: skip

    together = {(1, 1): theta, (0, 0): 1 - theta}
    apart = {(1, 0): theta, (0, 1): theta, (0, 0): 1 - 2 * theta}
    assert expected(together) <= 1 + 1e-12
    assert expected(apart) > 1.01


def test_missing_verdicts_never_win_in_expectation() -> None:
    """Every third verdict of A is missing, of B every second: the mean stays at most 1."""
    outcomes = np.array(list(product([0.0, 1.0], repeat=8)))
    chance = (0.3**outcomes * 0.7 ** (1 - outcomes)).prod(axis=1)
    a, b = outcomes[:, :4].copy(), outcomes[:, 4:].copy()
    a[:, ::3], b[:, ::2] = np.nan, np.nan
    assert chance @ paired_e_values(a, b) <= 1 + 1e-12
    none = np.full((1, 50), np.nan)
    assert paired_e_values(none, none)[0] <= 1


def test_pairs_without_a_draw_change_nothing() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.random((3, 60)) < 0.1).astype(float), (rng.random((3, 60)) < 0.3).astype(float)
    longer = np.concatenate([a, np.ones((3, 5))], axis=1)
    beside = np.concatenate([b, np.full((3, 5), -1.0)], axis=1)
    assert paired_e_values(longer, beside) == pytest.approx(paired_e_values(a, b))
    assert paired_e_values(a, b) == pytest.approx(paired_e_values(b, a))


def test_other_values_are_refused() -> None:
    with pytest.raises(UsageError, match="0 or 1"):
        paired_e_values([[0.5]], [[0.0]])
    with pytest.raises(UsageError, match="same shape"):
        paired_e_values([[0.0]], [[0.0, 1.0]])


def test_few_hits_are_little_evidence() -> None:
    ones = [1e-3], [1e-4]
    many = log_ratio_p_values(*ones, [1000.0], [1.4e-3], [1.4e-4], [1000.0])[0]
    few = log_ratio_p_values(*ones, [3.0], [1.4e-3], [1.4e-4], [3.0])[0]
    normal = 2 * stats.norm.sf(np.log(1.4) / np.sqrt(0.02))
    assert many == pytest.approx(normal, rel=0.05)
    assert few > 2 * many
    assert log_ratio_p_values([0.0], [0.0], [0.0], [1e-3], [1e-4], [50.0]).tolist() == [1.0]


def test_the_mean_is_that_of_clusters_and_missing_verdicts_widen_it() -> None:
    a, b = [0.0, 0.0, 0.2, 0.1], [0.1, 0.1, 0.2, 0.4]
    units = ["x", "x", "y", "z"]
    found = mean_change(a, b, units)
    assert (found.a, found.b, found.clusters) == (pytest.approx(0.1), pytest.approx(0.7 / 3), 3)
    assert found.difference == pytest.approx(0.4 / 3)
    assert found.interval is not None
    expected = stats.t.interval(0.95, 2, 0.4 / 3, stats.sem([0.1, 0.0, 0.3]))
    assert found.interval == pytest.approx(expected)
    wider = mean_change(a, b, units, most_a=[0.0, 0.5, 0.2, 0.1])
    assert wider.difference is None
    assert wider.ratio is None
    assert wider.interval is not None
    assert wider.interval[0] < found.interval[0]
    assert wider.finite_sample is not None
    assert found.finite_sample is not None
    assert wider.finite_sample[0] < found.finite_sample[0]
    assert wider.finite_sample[1] == found.finite_sample[1]


def test_a_single_cluster_has_no_asymptotic_interval() -> None:
    found = mean_change([0.1, 0.2], [0.1, 0.3], ["x", "x"])
    assert found.interval is None
    assert found.finite_sample is not None
    assert found.finite_sample[0] <= 0.05 <= found.finite_sample[1]


def test_unbounded_estimates_have_no_finite_sample_interval() -> None:
    found = mean_change([0.1, 1.4], [0.1, 0.3], ["x", "y"], bounded=False)
    assert found.finite_sample is None
    with pytest.raises(UsageError, match="at most 1"):
        mean_change([0.1, 1.4], [0.1, 0.3], ["x", "y"])


def test_only_complete_rounds_count_draw_by_draw() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random((5, 40)) < 0.1).astype(float), (rng.random((5, 40)) < 0.6).astype(float)
    longer = np.concatenate([a, np.ones((5, 3))], axis=1)
    partly = np.concatenate([b, np.ones((5, 3))], axis=1)
    partly[2, 40:] = -1
    assert draw_by_draw(longer, partly) == draw_by_draw(a, b)
    assert draw_by_draw(np.full((2, 3), -1.0), np.zeros((2, 3))) is None
    lost = b.copy()
    lost[:, :10] = np.nan
    known, unknown = draw_by_draw(a, b), draw_by_draw(a, lost)
    assert known is not None
    assert unknown is not None
    assert unknown[0] < known[0]
    assert known[1] <= unknown[1] + 1e-12


def test_draws_that_are_all_alike_do_not_say_how_far_off_they_are() -> None:
    """10 of 10 unsafe has a standard error of 0, and is not known to be 1."""
    assert log_ratio_p_values([1.0], [0.0], [10.0], [0.7], [0.046], [70.0])[0] == 1
    assert exact_p_values([10], [10], [70], [100])[0] > 0.05


def test_the_effective_number_of_clusters() -> None:
    units = [str(i) for i in range(40)]
    even = mean_change(np.full(40, 0.1), np.full(40, 0.1), units)
    assert even.effective == pytest.approx(40)
    one = mean_change(np.eye(1, 40)[0], np.eye(1, 40)[0], units)
    assert one.effective == pytest.approx(1)
    assert mean_change(np.zeros(40), np.zeros(40), units).effective == 0
