"""Guarantees by exact enumeration of small cases: no simulation, no tolerance for chance."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tailbound.survival.rules import (
    Betting,
    Binomial,
    Rule,
    WeightedSum,
    binomial_allowance,
    calibrated_level,
)

# A prompt is one of these kinds: with its probability, the level u at which it becomes an event,
# and the probability pi with which it is followed. The weight is 1 / pi; u = 2 is never an event.
LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 2.0])
SHARES = np.array([0.1, 0.1, 0.15, 0.15, 0.5])
SELECTION = np.array([0.5, 1.0, 0.5, 0.25, 1.0])


def miscoverage(level: float) -> float:
    """P(u < level), the risk that is to be controlled."""
    return float(SHARES[level > LEVELS].sum())


def outcomes(n: int, selection: np.ndarray):
    """Every way in which n prompts can come out, with its probability.

    Yields (probability, levels of the events, their weights): one entry for each followed prompt
    with an event.
    """
    kinds = [
        (float(share * pi), float(u), 1.0 / float(pi))
        for share, u, pi in zip(SHARES, LEVELS, selection, strict=True)
        if u < 1
    ]
    nothing = 1.0 - sum(chance for chance, _, _ in kinds)
    for counts in itertools.product(range(n + 1), repeat=len(kinds)):
        rest = n - sum(counts)
        if rest < 0:
            continue
        ways = math.factorial(n)
        chance = nothing**rest / math.factorial(rest)
        for count, (probability, _, _) in zip(counts, kinds, strict=True):
            chance *= probability**count / math.factorial(count)
        u = np.repeat([kind[1] for kind in kinds], counts)
        w = np.repeat([kind[2] for kind in kinds], counts)
        yield ways * chance, u, w


def distribution(n: int, rule: Rule, selection: np.ndarray) -> list[tuple[float, float]]:
    """(probability, true miscoverage of the calibrated level), exactly."""
    found = []
    for chance, u, w in outcomes(n, selection):
        level, _ = calibrated_level(u, w, rule, max_level=0.95)
        found.append((chance, miscoverage(level)))
    assert sum(chance for chance, _ in found) == pytest.approx(1.0)
    return found


@pytest.mark.parametrize("alpha", [0.15, 0.25, 0.4])
@pytest.mark.parametrize("n", [6, 13, 20])
def test_expected_risk_is_controlled_exactly(n, alpha):
    bound = 1.0 / SELECTION.min()
    rule = WeightedSum(alpha * (n + 1) - bound, prompts_needed=1, to_the_next_event=True)
    risk = sum(chance * missed for chance, missed in distribution(n, rule, SELECTION))
    assert risk <= alpha + 1e-12


@pytest.mark.parametrize("alpha", [0.15, 0.25, 0.4])
def test_with_equal_weights_expected_is_split_conformal(alpha):
    """N / (N + 1) miscoverage + 1 / (N + 1) <= alpha admits floor(alpha (N + 1)) - 1 events."""
    n = 13
    rule = WeightedSum(alpha * (n + 1) - 1.0, prompts_needed=1, to_the_next_event=True)
    u = np.linspace(0.01, 0.9, n)
    level, _ = calibrated_level(u, np.ones(n), rule, max_level=0.95)
    assert level == u[math.floor(alpha * (n + 1) + 1e-9) - 1]


@pytest.mark.parametrize("alpha", [0.15, 0.25, 0.4])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["binomial", "betting"])
def test_pac_fails_with_probability_at_most_delta_exactly(alpha, delta, kind):
    n = 20
    rule: Rule
    if kind == "binomial":  # a sample of n prompts, all of them followed
        selection = np.ones(5)
        rule = Binomial(n=n, followed=n, alpha=alpha, delta=delta)
    else:
        selection = SELECTION
        rule = Betting(n=n, alpha=alpha, delta=delta, weight_bound=1.0 / SELECTION.min())
    failed = sum(
        chance for chance, missed in distribution(n, rule, selection) if missed > alpha + 1e-12
    )
    assert failed <= delta + 1e-12


def test_the_binomial_rule_is_tight():
    """With u uniform the miscoverage at event k + 1 is its order statistic, Beta(k + 1, m - k)."""
    from scipy.stats import beta

    m, alpha, delta = 300, 0.1, 0.1
    k = binomial_allowance(m, alpha, delta)
    assert beta.sf(alpha, k + 1, m - k) <= delta < beta.sf(alpha, k + 2, m - k - 1)
    u = np.random.default_rng(0).random(m)
    rule = Binomial(n=m, followed=m, alpha=alpha, delta=delta)
    assert calibrated_level(u, np.ones(m), rule, max_level=0.95)[0] == np.sort(u)[k]


@given(st.integers(1, 2000), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_binomial_allowance_is_the_largest(draws, alpha, delta):
    k = binomial_allowance(draws, alpha, delta)
    assert k == -1 or binom.cdf(k, draws, alpha) <= delta * (1 + 1e-9)
    assert binom.cdf(k + 1, draws, alpha) > delta * (1 - 1e-9)


@pytest.mark.parametrize("n", [22, 60, 1000])
def test_prompts_needed_for_the_binomial_rule(n):
    followed = max(1, n // 3)
    rule = Binomial(n=n, followed=followed, alpha=0.1, delta=0.1)
    assert rule.feasible == (followed >= 22)
    assert Binomial(n=n, followed=n, alpha=0.1, delta=0.1).prompts_needed == 22


def test_no_events_are_enough_where_the_rule_is_feasible():
    rule = Binomial(n=22, followed=22, alpha=0.1, delta=0.1)
    none, two = np.array([]), np.array([0.3, 0.4])
    assert calibrated_level(none, none, rule, max_level=0.9) == (0.9, False)
    assert calibrated_level(two, np.ones(2), rule, max_level=0.9) == (0.3, True)
