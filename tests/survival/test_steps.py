"""Allocation by step: the optimum, its selection, and what it rests on where hazards fall."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import isotonic_regression
from test_predicted import drifting, times_of

from tailbound.survival import Geometric, Hazards, Mixture, allocation, calibrate_with_record
from tailbound.survival.designs import plan_weighted
from tailbound.survival.steps import StepChances, block_ends, chances_of, cost_and_size

STEPS = 20


def plan(predicted, *, budget: float = 5, max_weight: float = 33.0):
    return plan_weighted(
        *("balanced", predicted, predicted),
        budget=budget,
        alpha=0.1,
        max_weight=max_weight,
        max_level=0.95,
        reference=None,
        longest=STEPS + 1,
    )


def test_sizes_are_roots_of_the_falling_regression_of_hazards():
    rng = np.random.default_rng(0)
    hazards = rng.uniform(0.0, 0.4, (30, 12))
    cost, size = cost_and_size(Hazards(hazards), np.full(30, 12.0), block_ends(12))
    alive = np.column_stack([np.ones(30), np.cumprod(1 - hazards, axis=1)[:, :-1]])
    assert cost == pytest.approx(alive)
    for row in range(30):
        exact = isotonic_regression(hazards[row], weights=alive[row], increasing=False).x
        assert size[row] ** 2 == pytest.approx(exact)


def test_no_other_falling_chances_have_less_variance_at_the_same_cost():
    rng = np.random.default_rng(1)
    hazards = np.sort(rng.uniform(0.005, 0.3, (40, 8)), axis=1)[:, ::-1]
    hazards[::2] = hazards[::2, ::-1]  # half of them rise
    ends = block_ends(8)
    cost, size = cost_and_size(Hazards(hazards), np.full(40, 8.0), ends)
    floor = 0.1
    rule = allocation.proportional(40 * 2.0, cost.ravel(), size.ravel(), floor=floor)
    best = chances_of(rule, cost, size)
    events = cost * hazards

    def variance(chances):
        return (events / chances).sum()

    assert (cost * best).sum() == pytest.approx(40 * 2.0)
    for _ in range(300):
        other = best * np.exp(rng.normal(0, 0.05, best.shape).cumsum(axis=1) * rng.choice([0.1, 1]))
        other = np.clip(np.minimum.accumulate(other, axis=1), floor, 1.0)
        other = np.clip(other * (40 * 2.0) / (cost * other).sum(), floor, 1.0)
        if (cost * other).sum() <= 40 * 2.0:
            assert variance(other) >= variance(best) * (1 - 1e-9)


@pytest.mark.parametrize("kind", ["constant", "rising"])
def test_where_hazards_do_not_fall_it_is_the_allocation_of_prompts(kind):
    rng = np.random.default_rng(2)
    hazards = drifting(500, STEPS, kind, rng)
    by_step = plan(Hazards(hazards))
    assert (by_step.steps.chances == by_step.steps.chances[:, :1]).all() or np.ptp(
        by_step.steps.chances, axis=1
    ).max() < 1e-12
    if kind == "constant":
        whole = plan(Geometric(hazards[:, 0]))
        assert by_step.selection == pytest.approx(whole.selection, rel=1e-9)
        assert by_step.planned == pytest.approx(whole.planned)
        assert by_step.weight_bound == pytest.approx(whole.weight_bound)


def test_chances_of_falling_hazards_fall_and_spend_the_budget():
    rng = np.random.default_rng(3)
    hazards = drifting(500, STEPS, "falling", rng)
    found = plan(Hazards(hazards), budget=3)
    assert (np.diff(found.steps.chances, axis=1) <= 0).all()
    assert (found.steps.chances[:, -1] < found.steps.chances[:, 0]).mean() > 0.5
    assert found.planned == pytest.approx(500 * 3)
    assert 1 / found.steps.chances.min() == pytest.approx(found.weight_bound)


@pytest.mark.parametrize("systematic", [True, False])
def test_units_are_still_followed_with_their_chances(systematic):
    """Exact in expectation; 4,000 selections, 5 standard errors for each of 36 chances."""
    rng = np.random.default_rng(4)
    chances = np.sort(rng.uniform(0.1, 1.0, (12, 3)), axis=1)[:, ::-1]
    chances[0] = chances[0, 0]
    by_step = StepChances(np.array([1, 2, 5]), chances)
    reached = np.zeros((12, 3))
    for _ in range(4000):
        order, uniforms = np.arange(12)[::-1], None
        if systematic:
            chosen = allocation.systematic(chances[:, 0], order, rng.random())
        else:
            uniforms = rng.random(12)
            chosen = uniforms < chances[:, 0]
        selected = np.flatnonzero(chosen)
        limits = by_step.limits(selected, rng, order=order, uniforms=uniforms)
        assert set(limits.tolist()) <= {1.0, 2.0, np.inf}
        for column, end in enumerate((1, 2, 5)):
            reached[selected[limits >= end], column] += 1
    error = np.sqrt(chances * (1 - chances) / 4000) + 1e-3
    assert (np.abs(reached / 4000 - chances) < 5 * error).all()
    assert by_step.at(np.array([3, 3, 3]), np.array([1, 4, 99])).tolist() == [
        chances[3, 0],
        chances[3, 2],
        chances[3, 2],
    ]


def test_the_weighted_curve_is_unbiased_at_a_fixed_level():
    """The mean over 300 selections is the curve of full data, to 4 standard errors."""
    rng = np.random.default_rng(5)
    hazards = drifting(200, STEPS, "falling", rng)
    predicted, times = Hazards(hazards), times_of(hazards, rng)

    def observe(indices, horizons):
        return np.where(times[indices] <= horizons, times[indices], 0)

    estimates = []
    for seed in range(300):
        _, record = calibrate_with_record(
            predicted,
            observe,
            budget=3,
            guarantee="plug-in",
            max_level=0.08,
            max_follow_up=STEPS,
            rng=seed,
        )
        assert record.known_to == 0.08
        seen = (record.first_event > 0) & (record.levels < 0.08)
        estimates.append(record.weights[seen].sum() / 200)
    full = (times < np.minimum(predicted.quantile(0.08), STEPS + 1)).mean()
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert error > 0
    assert abs(np.mean(estimates) - full) <= 4 * error


def test_long_horizons_are_planned_in_few_blocks():
    risks = 10 ** np.random.default_rng(6).uniform(-5, -1, 300)
    falling = Mixture([Geometric(risks), Geometric(risks / 50)])
    found = plan_weighted(
        *("balanced", falling, falling),
        budget=100,
        alpha=0.1,
        max_weight=30,
        max_level=0.95,
        reference=None,
    )
    assert len(found.steps.ends) <= 60
    assert found.planned <= 300 * 100 * (1 + 1e-9)
    assert (np.diff(found.steps.chances, axis=1) <= 0).all()
