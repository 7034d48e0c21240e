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
                at the level at which the bound is expected to end; falling from step to step
                where hazards fall (`steps`); equal for `pac`

*Why sqrt(F / C).* The variance of the estimate is about (1 / N) sum F_i / pi_i, its cost
sum C_i pi_i. Where T is geometric, C = E[min(T, h)] = F / p, and the best pi is proportional to
sqrt(p): the horizon does not matter, only how soon events come.

*Why equal for `pac`.* With equal probabilities the number of events is binomial, and a binomial
test stands about 1.3 standard errors off alpha at delta = .1. What is known to hold for unequal
weights (betting) stands 2.2 off at best and 3 in practice, and the better allocation does not make
up for it: at 2,000 prompts a mean coverage of .92 against .93, and longer bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.survival import allocation, steps
from tailbound.survival.geometric import MAX_TIME
from tailbound.survival.predicted import (
    Geometric,
    PredictedTimes,
    as_predicted,
    earliest_last,
    event_rate,
    expected_draws,
)
from tailbound.survival.rules import binomial_allowance
from tailbound.survival.steps import StepChances

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DESIGNS = ("naive", "basic", "trimmed", "optimized", "balanced")

#: The smallest selection probability of `balanced`.
FLOOR = 0.03

#: Planning looks at this many prompts.
_PLANNING_SAMPLE = 8192


@dataclass(frozen=True, eq=False)
class Plan:
    """A design with its numbers filled in.

    `selection` is pi for each calibration prompt, shape (n,); `planned` the expected draws in
    total; `weight_bound` the largest 1 / pi that can occur; `steps`, where hazards fall, chances
    with which prompts are still followed at later draws (`selection` is that of the first);
    `first_level` a level below which the
    miscoverage curve is not expected to cross alpha. `reference_selection` is pi for the prompts
    that were planned with. `sample_size`, if not None: pi is the same for all, and exactly so many
    prompts are followed.
    """

    selection: FloatArray
    cap: int
    max_level: float
    planned: float
    weight_bound: float
    first_level: float
    reference_selection: FloatArray
    sample_size: int | None = None
    steps: StepChances | None = None


class PlanningHazard(Protocol):
    """Maps p_hat to the probability that planning should reckon with."""

    def __call__(self, p_hat: FloatArray) -> FloatArray:
        """Recalibrated probabilities, the same shape."""
        ...


Predictions = FloatArray | PredictedTimes


def default_max_weight(design: str, alpha: float, n: int, guarantee: str = "plug-in") -> float:
    """Largest weight by default: 100 for the published designs, as published; else 1 / .03.

    Less for few prompts, so that no single prompt can decide alone (`reliable_weight`): alpha n /
    4, and alpha n / 10 for `marginal` with `balanced`, which pays weight / n; for `marginal` never
    more than half of what it has to spend, alpha (n + 1), so that it can state a bound wherever
    equal weights could. For `pac` with `balanced`, whose weights are equal, it is chosen by
    `plan_equal`.
    """
    marginal = guarantee == "marginal"
    share = 10.0 if marginal and design == "balanced" else 4.0
    weight = min(
        1 / FLOOR if design == "balanced" else 100.0, reliable_weight(alpha, n, share=share)
    )
    return max(1.0, min(weight, alpha * (n + 1) / 2)) if marginal else weight


def reliable_weight(alpha: float, n: int, *, share: float = 4.0) -> float:
    """alpha n / `share`, never below 4: greater weights are too rarely met to be relied upon.

    What an event of greater weight stands for is missed in most calibrations, and overrated in
    the others: the estimate of the miscoverage is still unbiased, the level that rests on it not.
    """
    return float(max(4.0, alpha * n / share))


def default_max_level(design: str, alpha: float) -> float:
    """Largest level looked at: .95 for `balanced`, 10^.25 alpha for the published designs.

    At alpha = .1 the latter is 10^-.75, the end of the published grid. `balanced` can afford a
    high one because its horizons are lazy and its selection does not depend on it.
    """
    return 0.95 if design == "balanced" else min(0.95, 10**0.25 * alpha)


def plan_weighted(
    design: str,
    p_hat: Predictions,
    planning: Predictions,
    *,
    budget: float,
    alpha: float,
    max_weight: float,
    max_level: float,
    reference: tuple[Predictions, Predictions] | None,
    longest: int = MAX_TIME,
) -> Plan:
    """Fill in the numbers of a design other than `naive`.

    `planning` are predictions that planning reckons with, and no bound is longer than `longest`.
    `reference` is (p_hat, planning) of prompts outside the calibration set: where it is given,
    everything that depends on a set of prompts (multiplier, weight bound) is taken from it and not
    from the calibration prompts, so that selection is a fixed function of the prompt.
    """
    cap = min(cap_of(budget, max_weight) if design != "basic" else MAX_TIME, longest)
    p_hat, planning = _same_kind(p_hat, planning)
    ref_p, ref_q = (p_hat, planning) if reference is None else _same_kind(*reference)
    outlook = PopulationForecast(ref_p, ref_q, cap=cap, max_level=max_level)
    tau_plan = outlook.level_of(alpha) if design == "balanced" else max_level
    if design == "balanced" and not (
        isinstance(planning, Geometric) and isinstance(ref_q, Geometric)
    ):
        ends = _block_ends((p_hat, ref_p), tau_plan, cap)
        cost, size = steps.cost_and_size(planning, horizons(p_hat, tau_plan, cap), ends)
        ref_cost, ref_size = cost, size
        if reference is not None:
            ref_cost, ref_size = steps.cost_and_size(ref_q, horizons(ref_p, tau_plan, cap), ends)
        total = len(ref_p) * budget
        rule = allocation.proportional(
            total, ref_cost.ravel(), ref_size.ravel(), floor=1.0 / max_weight
        )
        chances = steps.chances_of(rule, cost, size)
        ref_chances = steps.chances_of(rule, ref_cost, ref_size)
        lowest = float(ref_chances.min())
        np.maximum(chances, lowest, out=chances)
        return Plan(
            selection=chances[:, 0],
            cap=cap,
            max_level=max_level,
            planned=float((cost * chances).sum()),
            weight_bound=1.0 / lowest,
            first_level=outlook.level_of(alpha / 2),
            reference_selection=ref_chances[:, 0],
            steps=StepChances(ends, chances),
        )

    def cost_and_size(p: PredictedTimes, q: PredictedTimes) -> tuple[FloatArray, FloatArray]:
        horizon = horizons(p, tau_plan, cap)
        if design == "balanced":
            return expected_draws(q, horizon), np.sqrt(event_rate(q, horizon))
        if design == "optimized":
            return horizon, allocation.inverse_root(horizon)
        return horizon, 1.0 / np.maximum(horizon, 1.0)

    cost, size = cost_and_size(p_hat, planning)
    ref_cost, ref_size = (cost, size) if reference is None else cost_and_size(ref_p, ref_q)
    if design == "balanced":
        total = len(ref_cost) * budget
        rule = allocation.proportional(total, ref_cost, ref_size, floor=1.0 / max_weight)
    elif design == "optimized":
        rule = allocation.least_variance(len(ref_cost) * budget, ref_cost)
    else:
        rule = allocation.Scaling(budget, 0.0)
    pi = ref_pi = rule(cost, size)
    if reference is not None:
        # The smallest probability among the reference prompts is the smallest that may occur.
        ref_pi = rule(ref_cost, ref_size)
        np.maximum(pi, float(ref_pi.min()), out=pi)
    return Plan(
        selection=pi,
        cap=cap,
        max_level=max_level,
        planned=float(cost @ pi),
        weight_bound=1.0 / float(ref_pi.min()),
        first_level=outlook.level_of(alpha / 2),
        reference_selection=ref_pi,
    )


def plan_equal(
    n: int,
    *,
    budget: float,
    alpha: float,
    delta: float,
    max_weight: float | None,
    max_level: float,
    reference: tuple[Predictions, Predictions],
    longest: int = MAX_TIME,
) -> Plan:
    """The design of `pac`: everybody has the same chance, and the number followed is fixed.

    Everything is a function of n and of the reference prompts. A higher cap M = budget max_weight
    allows longer bounds, but what it costs leaves fewer prompts to follow, and so a greater
    distance to alpha. Unless `max_weight` is given, it is the one of a few for which the product
    of the median and the geometric mean of the reference prompts' bounds is expected to be
    largest.
    """
    choices = [max_weight] if max_weight is not None else np.geomspace(1.0, 1.0 / FLOOR, 13)
    known, planning = _same_kind(*reference)
    best: tuple[float, Plan] | None = None
    for weight in choices:
        cap = min(cap_of(budget, weight), longest)
        outlook = PopulationForecast(known, planning, cap=cap, max_level=max_level, sample=1024)
        tau, followed, cost = outlook.level_of(alpha), n, 0.0
        for _ in range(3):  # the cost depends on the level, the level on what can be afforded
            cost = outlook.cost(tau)
            followed = max(1, math.floor(n * min(1.0, budget / max(cost, 1e-300))))
            allowed = binomial_allowance(followed, alpha, delta)
            tau = outlook.level_of((allowed + 1) / (followed + 1))
        length = 0.0
        if allowed >= 0:
            length = outlook.log_mean_bound(tau) + math.log(outlook.median_bound(tau))
        if best is None or length > best[0]:
            plan = Plan(
                selection=np.full(n, followed / n),
                cap=cap,
                max_level=max_level,
                planned=followed * cost,
                weight_bound=n / followed,
                first_level=outlook.level_of((allowed + 1) / (followed + 1) / 2),
                reference_selection=np.full(len(known), followed / n),
                sample_size=followed,
            )
            best = (length, plan)
    assert best is not None
    return best[1]


def cap_of(budget: float, max_weight: float) -> int:
    """M = budget x max_weight, rounded up: the longest bound."""
    return int(min(math.ceil(budget * max_weight), MAX_TIME))


def planning_sample(
    p_hat: Predictions, planning: Predictions, sample: int
) -> tuple[PredictedTimes, PredictedTimes]:
    """Both for no more than `sample` prompts, evenly spread in order of p_hat."""
    predicted, planned = _same_kind(p_hat, planning)
    if len(predicted) <= sample:
        return predicted, planned
    ranks = np.linspace(0, len(predicted) - 1, sample).astype(np.int64)
    kept = earliest_last(predicted)[ranks]
    same = planned is predicted
    predicted = predicted.take(kept)
    return predicted, predicted if same else planned.take(kept)


class PopulationForecast:
    """What planning expects of a population: (predictions, those that planning reckons with).

    Looks at no more than `sample` prompts, evenly spread in order of p_hat.
    """

    def __init__(
        self,
        p_hat: Predictions,
        planning: Predictions,
        *,
        cap: int,
        max_level: float,
        sample: int = _PLANNING_SAMPLE,
    ) -> None:
        self._predicted, self._planned = planning_sample(p_hat, planning, sample)
        self._cap, self._max_level = cap, max_level

    def miscoverage(self, tau: float) -> float:
        """Expected P(T < L) at level `tau`."""
        return float(self._planned.level(self._bounds(tau) - 1).mean())

    def cost(self, tau: float) -> float:
        """Expected draws of a followed prompt up to level `tau`."""
        return float(expected_draws(self._planned, self._bounds(tau) - 1).mean())

    def log_mean_bound(self, tau: float) -> float:
        """Mean of log L at level `tau`."""
        return float(np.log(self._bounds(tau)).mean())

    def median_bound(self, tau: float) -> float:
        """Median of L at level `tau`."""
        return float(np.median(self._bounds(tau)))

    def level_of(self, alpha: float) -> float:
        """The level at which the expected miscoverage passes `alpha`, at most the largest level."""
        if self.miscoverage(self._max_level) <= alpha:
            return self._max_level
        low, high = np.log(1e-9), np.log(self._max_level)
        while high - low > 1e-4:
            middle = (low + high) / 2
            if self.miscoverage(float(np.exp(middle))) <= alpha:
                low = middle
            else:
                high = middle
        return float(np.exp(low))

    def _bounds(self, tau: float) -> FloatArray:
        return np.minimum(self._predicted.quantile(tau), self._cap)


def as_planning(planning: Any, predicted: PredictedTimes) -> PredictedTimes:
    """What planning reckons with: `predicted` itself, other predictions, or a function of them.

    A function maps p_hat to probabilities where the predictions are geometric, and predictions to
    predictions otherwise.
    """
    if planning is None:
        return predicted
    if isinstance(planning, PredictedTimes):
        return planning
    if isinstance(predicted, Geometric):
        return Geometric(as_hazard(planning, predicted.p))
    found = planning(predicted) if callable(planning) else planning
    if not isinstance(found, PredictedTimes):
        raise UsageError(
            "planning_p_hat must be predictions, or a function from predictions to predictions, "
            "where the predictions are not geometric"
        )
    return found


def as_hazard(planning: Any, p_hat: FloatArray) -> FloatArray:
    """Planning probabilities from an array, a callable or None (p_hat itself)."""
    if planning is None:
        return p_hat
    values = planning(p_hat) if callable(planning) else planning
    return np.clip(np.asarray(values, dtype=np.float64), 1e-300, 1.0)


def _block_ends(everyone: tuple[PredictedTimes, ...], tau: float, cap: int) -> IntArray:
    """Blocks that reach up to the longest horizon of anybody."""
    return steps.block_ends(int(max(horizons(one, tau, cap).max() for one in everyone)))


def _same_kind(p_hat: Predictions, planning: Predictions) -> tuple[PredictedTimes, PredictedTimes]:
    """Both as `PredictedTimes`; one object where they are one."""
    predicted = as_predicted(p_hat)
    return predicted, predicted if planning is p_hat else as_predicted(planning)


def horizons(p_hat: Predictions, tau: float, cap: int) -> FloatArray:
    """min(q(tau), cap) - 1, shape (n,): the draws after which T < min(q(tau), cap) is known."""
    horizon = np.minimum(as_predicted(p_hat).quantile(tau), cap)
    horizon -= 1
    return horizon
