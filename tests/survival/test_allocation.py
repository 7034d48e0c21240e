"""Allocation: optimal, within budget, and selected with exactly the stated probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.survival.allocation import inverse_root, least_variance, proportional, systematic

positive = st.floats(-2, 4).map(lambda x: 10.0**x)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=30), st.floats(0.01, 2))
def test_proportional_spends_the_budget_and_keeps_its_shape(rows, share):
    cost, size = np.array(rows).T
    budget = share * cost.sum()
    floor = 0.05
    pi = proportional(budget, cost, size, floor=floor)(cost, size)
    assert (pi >= floor).all()
    assert (pi <= 1).all()
    if share >= 1:
        assert (pi == 1).all()
    else:
        assert cost @ pi == pytest.approx(max(budget, floor * cost.sum()), rel=1e-9)
    inner = (pi > floor * (1 + 1e-9)) & (pi < 1 - 1e-9)
    if inner.sum() > 1:
        ratio = pi[inner] / size[inner]
        assert ratio == pytest.approx(ratio[0], rel=1e-6)
        # No prompt at the floor deserves more, none at 1 less.
        assert (size[pi <= floor] * ratio[0] <= floor * (1 + 1e-6)).all()
        assert (size[pi >= 1] * ratio[0] >= 1 - 1e-6).all()


@pytest.mark.parametrize("budget", [3.0, 20.0, 150.0, 1e4])
def test_least_variance_is_the_convex_optimum(budget):
    """The Karush-Kuhn-Tucker conditions, sufficient since the problem is convex."""
    horizon = np.random.default_rng(0).lognormal(2, 1.5, 12)
    pi = least_variance(budget, horizon)(horizon, inverse_root(horizon))
    if horizon.sum() <= budget:
        assert (pi == 1).all()
        return
    assert horizon @ pi == pytest.approx(budget, rel=1e-12)
    inner = pi < 1
    multiplier = 1 / (pi[inner] ** 2 * horizon[inner])
    assert multiplier == pytest.approx(multiplier[0], rel=1e-9)
    assert (multiplier[0] * horizon[~inner] <= 1).all()


def test_prompts_that_cost_nothing_are_always_selected():
    cost = np.array([0.0, 100.0])
    rule = proportional(1.0, cost, np.ones(2), floor=0.0)
    assert rule(cost, np.ones(2)) == pytest.approx([1.0, 0.01])
    assert least_variance(1.0, cost)(cost, inverse_root(cost)) == pytest.approx([1.0, 0.01])


@pytest.mark.parametrize("budget", [4.0, 40.0])
def test_no_numerical_optimiser_does_better(budget):
    from scipy.optimize import minimize

    horizon = np.random.default_rng(1).lognormal(2, 1.2, 6)
    ours = least_variance(budget, horizon)(horizon, inverse_root(horizon))
    found = minimize(
        lambda pi: (1 / pi).sum(),
        np.full(6, budget / horizon.sum() / 2),
        jac=lambda pi: -1 / pi**2,
        bounds=[(1e-6, 1.0)] * 6,
        constraints={"type": "ineq", "fun": lambda pi: budget - horizon @ pi},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert (1 / ours).sum() <= found.fun * (1 + 1e-6)
    assert ours == pytest.approx(found.x, rel=1e-2)


def test_floors_go_before_the_budget():
    cost, size = np.array([10.0, 10.0]), np.array([1.0, 2.0])
    assert proportional(1.0, cost, size, floor=0.2)(cost, size).tolist() == [0.2, 0.2]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_systematic_inclusion_probabilities_are_exact(pi, random):
    pi = np.array(pi)
    order = np.array(random.sample(range(len(pi)), len(pi)))
    # Selection changes only where start meets the fraction of a cumulative sum: integrate exactly.
    cuts = np.unique(np.concatenate([[0.0, 1.0], np.cumsum(pi[order]) % 1.0]))
    included = np.zeros(len(pi))
    for low, high in itertools.pairwise(cuts):
        chosen = systematic(pi, order, (low + high) / 2)
        included += (high - low) * chosen
        if high - low > 1e-9:  # not a sliver that rounding made
            assert abs(chosen.sum() - pi.sum()) < 1 + 1e-9
    assert included == pytest.approx(pi, abs=1e-9)
