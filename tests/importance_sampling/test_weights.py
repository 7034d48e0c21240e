"""Arithmetic of weights: closed forms, properties, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.errors import UsageError
from tailbound.importance_sampling import (
    balance_heuristic,
    effective_sample_size,
    mean_weight,
    standard_error,
)

logs = st.lists(st.one_of(st.just(-np.inf), st.floats(-50, 50)), min_size=1, max_size=30)


@given(logs, st.floats(-600, 600))
def test_effective_sample_size_has_no_scale_and_lies_between_one_and_n(
    terms: list[float], shift: float
) -> None:
    ess = effective_sample_size(terms)
    positive = int(np.isfinite(terms).sum())
    assert effective_sample_size(np.array(terms) + shift) == pytest.approx(ess, rel=1e-9)
    assert (ess == 0) if positive == 0 else (1 - 1e-12 <= ess <= positive * (1 + 1e-12))


def test_balance_heuristic_is_p_over_the_mixture_of_the_counts() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(-3, 1, 7), rng.normal(-3, 1, (4, 7))
    counts = np.array([3, 0, 5, 12])
    expected = np.exp(p) / (counts / 20 @ np.exp(q))
    np.testing.assert_allclose(np.exp(balance_heuristic(p, q, counts)), expected)
    # a proposal without draws has no part, whatever its density
    q[1] = -np.inf
    np.testing.assert_allclose(np.exp(balance_heuristic(p, q, counts)), expected)
    # more batches of the same shares: the same weights
    np.testing.assert_allclose(np.exp(balance_heuristic(p, q, 7 * counts)), expected)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(-700, 0), st.floats(-700, 0))
def test_weights_are_bounded_by_the_share_of_the_target(n: int, m: int, p: float, q: float) -> None:
    weight = balance_heuristic([p], [[p], [q]], [n, m])
    assert weight[0] <= np.log((n + m) / n) + 1e-9


def test_what_the_target_cannot_say_has_weight_0() -> None:
    never = -np.inf
    assert balance_heuristic([never, never], [[never, never], [-1.0, never]], [1, 1]).tolist() == [
        never,
        never,
    ]
    assert balance_heuristic([-5000.0], [[-5000.0], [-4990.0]], [0, 3])[0] == pytest.approx(-10)
    # impossible under all that were drawn from, but not under the target: caught by `estimate`
    assert balance_heuristic([-1.0], [[-1.0], [never]], [0, 3])[0] == np.inf


def test_standard_error_without_strata_is_the_usual_one() -> None:
    x = np.array([0.0, 1.0, 3.0, 4.0])
    assert standard_error(x) == pytest.approx(x.std(ddof=1) / 2)
    assert np.isnan(standard_error([1.0]))


def test_standard_error_leaves_out_differences_between_strata() -> None:
    x = np.array([0.0, 1.0, 10.0, 12.0, 14.0])
    expected = np.sqrt(2 * 0.5 + 3 * 4.0) / 5
    assert standard_error(x, ["a", "a", "b", "b", "b"]) == pytest.approx(expected)
    assert standard_error(x, np.zeros(5)) == pytest.approx(standard_error(x))
    assert standard_error([1.0, 1.0, 5.0, 5.0], [0, 0, 1, 1]) == 0


def test_strata_of_one_draw_are_taken_together() -> None:
    x = np.array([0.0, 1.0, 10.0, 12.0])
    together = standard_error(x, [0, 0, 1, 1])
    assert standard_error(x, [0, 0, 1, 2]) == pytest.approx(together)
    alone = standard_error(x, [0, 0, 0, 1])
    assert alone == pytest.approx(np.sqrt(3 * x[:3].var(ddof=1) + x.var(ddof=1)) / 4)


def test_stratified_variance_is_unbiased_in_simulation() -> None:
    """400 estimates against their spread; 6 standard errors of slack, fixed seed."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [5, 10, 25])
    x = rng.exponential(1, (4000, 40)) * np.array([4.0, 1.0, 0.0])[labels] + labels
    squares = np.array([standard_error(row, labels) ** 2 for row in x])
    exact = (5 * 16 + 10) / 40**2
    assert abs(squares.mean() - exact) < 6 * squares.std() / np.sqrt(4000)


def test_mean_weight_is_one_for_plain_draws_and_sees_a_wrong_density() -> None:
    assert mean_weight(np.zeros(10)) == (1.0, 0.0)
    assert mean_weight([0.0]) == (1.0, 0.0)
    rng = np.random.default_rng(2)
    # q = N(0, 1), p = N(.5, 1)
    y = rng.normal(0, 1, 5000)
    mean, z = mean_weight(0.5 * y - 0.125)
    assert abs(mean - 1) < 0.05
    assert abs(z) < 3
    assert mean_weight(0.5 * y - 0.125 - 0.2)[1] < -6
    assert mean_weight([-np.inf, -np.inf])[0] == 0


def test_mean_weight_z_is_not_fooled_by_draws_without_spread() -> None:
    """1% short because the rare large weights were not met: no alarm."""
    labels = np.repeat([0, 1], [50, 450])
    log_w = np.where(labels == 0, np.log(9.9), -10.0)
    mean, z = mean_weight(log_w, labels)
    assert mean == pytest.approx(0.99, abs=1e-3)
    assert abs(z) < 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: balance_heuristic([0.0], [[0.0]], [0]),
        lambda: balance_heuristic([0.0], [[0.0]], [-1]),
        lambda: balance_heuristic([0.0], [[0.0, 1.0]], [1]),
        lambda: balance_heuristic([np.nan], [[0.0]], [1]),
        lambda: balance_heuristic([0.0], [[np.nan]], [1]),
        lambda: mean_weight([]),
        lambda: mean_weight([np.nan]),
        lambda: mean_weight([[0.0]]),
    ],
)
def test_bad_input(call: object) -> None:
    with pytest.raises(UsageError) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
