r"""Sampling designs: which calibration prompts are followed, and how far.

Prompt i is followed with probability pi_i, until its first unsafe draw or its horizon,
min(q_i(tau), M) - 1 draws, where q_i(tau) is its predicted quantile and M the cap: whether
T_i < min(q_i(tau), M) is known then. Weighted by 1 / pi_i, what is seen estimates the miscoverage
of every level without bias. The designs differ in pi and M; `basic`, `trimmed` and `optimized` are
those of Davidov et al. (arXiv 2506.13593), `balanced` is ours.

    basic       pi = min(B / c, 1), c = q(tau_max) - 1, no cap
    trimmed     pi = min(B / c, 1), c = min(q(tau_max), M) - 1
    optimized   min sum 1 / pi subject to sum c pi <= N B
    balanced    pi proportional to sqrt(F / C) between 1 / max_weight and 1, where F is the
                probability that following the prompt brings an event and C its expected cost, both
                at the level tau_plan at which the bound is expected to end

*Why sqrt(F / C).* The variance of the estimate is about (1 / N) sum F_i / pi_i, its cost
sum C_i pi_i. Since C = E[min(T, h)] = F / p, the best pi is proportional to sqrt(p): the horizon
does not matter, only how soon events come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailbound.survival import allocation
from tailbound.survival.geometric import MAX_TIME, expected_draws, level, quantile

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DESIGNS = ("naive", "basic", "trimmed", "optimized", "balanced")

#: The level at which a bound is expected to end is found on about this many prompts.
_PLANNING_SAMPLE = 4096


@dataclass(frozen=True, eq=False)
class Plan:
    """A design with its numbers filled in.

    `selection` is pi for each calibration prompt, shape (n,); `planned` the expected draws in
    total; `weight_bound` the largest 1 / pi that can occur; `first_level` a level below which the
    miscoverage curve is not expected to cross alpha.
    """

    selection: FloatArray
    cap: int
    max_level: float
    planned: float
    weight_bound: float
    first_level: float


class PlanningHazard(Protocol):
    """Maps p_hat to the probability that planning should reckon with."""

    def __call__(self, p_hat: FloatArray) -> FloatArray:
        """Recalibrated probabilities, the same shape."""
        ...


def default_max_weight(design: str, alpha: float, n: int, guarantee: str = "marginal") -> float:
    """Largest weight by default: 100 for the published designs, as published.

    For `balanced` at most 1 / .03, and less for few prompts, so that no single prompt can decide
    alone: alpha n / 4 for `marginal`; alpha n / 10 for `expected`, which pays weight / n; and
    alpha n / 25 for `pac`, whose bets are at most 1 / weight. Never below 4.
    """
    if design != "balanced":
        return 100.0
    share = {"marginal": 4.0, "expected": 10.0, "pac": 25.0}[guarantee]
    return float(min(1 / 0.03, max(4.0, alpha * n / share)))


def default_max_level(design: str, alpha: float) -> float:
    """Largest level looked at: .95 for `balanced`, 10^.25 alpha for the published designs.

    At alpha = .1 the latter is 10^-.75, the end of the published grid. `balanced` can afford a
    high one because its horizons are lazy and its selection does not depend on it.
    """
    return 0.95 if design == "balanced" else min(0.95, 10**0.25 * alpha)


def make_plan(
    design: str,
    p_hat: FloatArray,
    planning: FloatArray,
    *,
    budget: float,
    alpha: float,
    max_weight: float,
    max_level: float,
    reference: tuple[FloatArray, FloatArray] | None,
) -> Plan:
    """Fill in the numbers of a design other than `naive`.

    `reference` is (p_hat, planning probabilities) of prompts outside the calibration set: where it
    is given, everything that depends on a set of prompts (multiplier, weight bound) is taken from
    it and not from the calibration prompts, so that selection is a fixed function of the prompt.
    """
    n = len(p_hat)
    cap = MAX_TIME if design == "basic" else int(min(np.ceil(budget * max_weight), MAX_TIME))
    ref_p, ref_q = reference if reference is not None else (p_hat, planning)
    sample_p, sample_q = _thin(ref_p, ref_q)
    tau_plan = _expected_level(sample_p, sample_q, alpha=alpha, cap=cap, max_level=max_level)
    first_level = _expected_level(sample_p, sample_q, alpha=alpha / 3, cap=cap, max_level=max_level)

    if design == "balanced":
        horizon = np.minimum(quantile(p_hat, tau_plan), cap) - 1
        cost = expected_draws(planning, horizon)
        size, floor = np.sqrt(planning), 1.0 / max_weight
        if reference is None:
            pi = allocation.proportional(n * budget, cost, size, floor=floor)
        else:
            ref_cost = expected_draws(ref_q, np.minimum(quantile(ref_p, tau_plan), cap) - 1)
            ref_pi = allocation.proportional(
                len(ref_p) * budget, ref_cost, np.sqrt(ref_q), floor=floor
            )
            pi = _carry_over(ref_pi, np.sqrt(ref_q), ref_cost, size, floor=floor)
        pi = np.where(np.minimum(quantile(p_hat, max_level), cap) > 1, pi, 1.0)
    else:
        horizon = np.minimum(quantile(p_hat, max_level), cap) - 1
        cost = horizon.astype(np.float64)
        if design == "optimized" and reference is None:
            pi = allocation.least_variance(n * budget, cost)
        elif design == "optimized":
            ref_cost = (np.minimum(quantile(ref_p, max_level), cap) - 1).astype(np.float64)
            ref_pi = allocation.least_variance(len(ref_p) * budget, ref_cost)
            with np.errstate(divide="ignore"):
                pi = _carry_over(
                    ref_pi, 1 / np.sqrt(ref_cost), ref_cost, 1 / np.sqrt(cost), floor=0.0
                )
        else:
            pi = np.minimum(budget / np.maximum(cost, 1.0), 1.0)
        pi[cost == 0] = 1.0
    if reference is not None:
        # The smallest probability among the reference prompts is the smallest there is.
        floor = float(ref_pi.min()) if design in ("balanced", "optimized") else 1.0 / max_weight
        pi = np.maximum(pi, floor)
        bound = 1.0 / floor
    else:
        bound = float(1.0 / pi.min())
    return Plan(pi, cap, max_level, float(cost @ pi), bound, first_level)


def _carry_over(
    ref_pi: FloatArray,
    ref_size: FloatArray,
    ref_cost: FloatArray,
    size: FloatArray,
    *,
    floor: float,
) -> FloatArray:
    """Apply the rule clip(s size, floor, 1), with s as solved on the reference prompts."""
    inner = (ref_cost > 0) & (ref_pi > floor) & (ref_pi < 1.0)
    if inner.any():
        scale = float(np.median(ref_pi[inner] / ref_size[inner]))
    elif (ref_pi[ref_cost > 0] >= 1.0).all():
        return np.ones_like(size)
    else:
        scale = 0.0
    return np.clip(scale * size, max(floor, 1e-12), 1.0)


def _thin(p_hat: FloatArray, planning: FloatArray) -> tuple[FloatArray, FloatArray]:
    """About `_PLANNING_SAMPLE` prompts, evenly spread over the set."""
    step = max(1, len(p_hat) // _PLANNING_SAMPLE)
    return p_hat[::step], planning[::step]


def _expected_level(
    p_hat: FloatArray, planning: FloatArray, *, alpha: float, cap: int, max_level: float
) -> float:
    """The level at which the miscoverage that planning expects passes alpha (at most max_level)."""

    def miscoverage(tau: float) -> float:
        times = np.minimum(quantile(p_hat, tau), cap)
        return float(level(planning, times - 1).mean())

    if miscoverage(max_level) <= alpha:
        return max_level
    low, high = np.log(1e-9), np.log(max_level)
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if miscoverage(float(np.exp(middle))) <= alpha else (low, middle)
    return float(np.exp(low))


def as_hazard(planning: Any, p_hat: FloatArray) -> FloatArray:
    """Planning probabilities from an array, a callable or None (p_hat itself)."""
    if planning is None:
        return p_hat
    values = planning(p_hat) if callable(planning) else planning
    return np.clip(np.asarray(values, dtype=np.float64), 1e-300, 1.0)
