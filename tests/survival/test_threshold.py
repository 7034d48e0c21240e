"""The calibrated level against a search that evaluates the curve at every candidate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.survival.rules import Betting, WeightedSum, calibrated_level

events = st.lists(
    st.tuples(st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.3, 0.6]), st.sampled_from([1.0, 2.0, 5.0])),
    max_size=12,
)


@given(events, st.sampled_from([0.0, 1.0, 2.0, 3.0, 8.0]), st.sampled_from([0.1, 0.5, 0.95]))
def test_the_level_is_the_last_event_that_may_be_counted(rows, allowance, max_level):
    u, w = (np.array([row[i] for row in rows]) for i in (0, 1))
    level, by_alpha = calibrated_level(
        u, w, WeightedSum(allowance, prompts_needed=1), max_level=max_level
    )
    total = {t: w[u <= t].sum() for t in u if t < max_level}
    if all(value <= allowance for value in total.values()):
        assert (level, by_alpha) == (max_level, False)
    else:
        assert by_alpha
        assert level == max((t for t, value in total.items() if value <= allowance), default=0.0)


def test_equal_weights_with_a_whole_allowance_do_not_depend_on_rounding():
    u = np.linspace(0.01, 0.5, 50)
    w = np.full(50, 1 / 0.3)
    rule = WeightedSum(15 * (1 / 0.3), prompts_needed=1)
    assert calibrated_level(u, w, rule, max_level=0.9)[0] == u[14]


def test_betting_admits_what_its_wealth_allows():
    rule = Betting(n=300, alpha=0.1, delta=0.1, weight_bound=5.0)
    admitted = rule.admits(np.full(60, 2.0))
    count = int(admitted.sum())
    assert 0 < count < 15  # 300 prompts, weight 2: miscoverage .1 is 15 events
    assert not admitted[count:].any()
    assert rule.feasible
    assert not Betting(n=20, alpha=0.1, delta=0.1, weight_bound=5.0).feasible


@pytest.mark.parametrize("weight", [4.0, 33.3])
def test_prompts_needed_is_the_least_number_that_can_qualify(weight):
    needed = Betting(n=1, alpha=0.1, delta=0.1, weight_bound=weight).prompts_needed
    assert Betting(n=needed, alpha=0.1, delta=0.1, weight_bound=weight).feasible
    assert not Betting(n=needed - 1, alpha=0.1, delta=0.1, weight_bound=weight).feasible


def test_the_expected_wealth_of_a_true_null_is_at_most_one():
    """E[K] <= 1 where the mean of the Z is alpha, even if they are not identical; exact."""
    alpha, n = 0.25, 6
    means = np.linspace(0.05, 0.45, n)
    assert means.mean() == pytest.approx(alpha)
    weight = 2.0
    bets = np.geomspace(1e-3, 0.98 / (weight - alpha), 24)
    # Z_i is `weight` with probability means_i / weight, else 0; independent.
    expected = np.prod(1 + bets[:, None] * (alpha - means[None, :]), axis=1).mean()
    assert expected <= 1.0
