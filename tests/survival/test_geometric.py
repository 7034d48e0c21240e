"""Geometric arithmetic, at the edges of floating point."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.survival import MAX_TIME, expected_draws, level, quantile

risks = st.floats(-12, 0).map(lambda x: 10.0**x)
levels = st.floats(1e-9, 1 - 1e-9)


@given(risks, levels, st.integers(1, 10**9))
def test_level_and_quantile_are_exact_inverses(p, tau, time):
    assert (time < quantile(p, tau)) == bool(level(p, time) < tau)


@given(risks, levels)
def test_quantile_is_the_smallest_time_that_reaches_the_level(p, tau):
    t = int(quantile(p, tau))
    assert level(p, t) >= tau
    assert t == 1 or level(p, t - 1) < tau


@given(risks, levels, levels)
def test_quantile_is_monotone(p, a, b):
    low, high = sorted((a, b))
    assert quantile(p, low) <= quantile(p, high)
    assert quantile(max(p / 2, 1e-12), low) >= quantile(p, low)


@pytest.mark.parametrize("p", [Fraction(1, 3), Fraction(1, 10), Fraction(7, 8)])
@pytest.mark.parametrize("tau", [Fraction(1, 7), Fraction(1, 2), Fraction(99, 100)])
def test_quantile_against_rational_arithmetic(p, tau):
    t = 1
    while 1 - (1 - p) ** t < tau:
        t += 1
    assert quantile(float(p), float(tau)) == t


def test_edges():
    assert quantile(1.0, 0.5) == 1
    assert quantile(0.5, 0.0) == 1
    assert quantile(1e-300, 0.9) == MAX_TIME
    assert level(1.0, 0) == 0.0
    assert level(1.0, 3) == 1.0
    assert level(1e-12, 1) == pytest.approx(1e-12, rel=1e-12)
    assert quantile(1e-12, 0.1) == pytest.approx(1.0536e11, rel=1e-4)


@given(st.floats(0.01, 1.0), st.integers(0, 60))
def test_expected_draws(p, horizon):
    survivors = np.cumprod(np.full(horizon, 1 - p)) / (1 - p) if p < 1 else np.eye(1, horizon)[0]
    assert expected_draws(p, horizon) == pytest.approx(survivors.sum(), rel=1e-9, abs=1e-12)
