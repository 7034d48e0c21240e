"""Calibration: the one entry point, used by the audit and by simulations alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival import allocation
from tailbound.survival.bound import LimitedBy, LowerPredictiveBound, check_probabilities
from tailbound.survival.designs import (
    DESIGNS,
    Plan,
    PlanningHazard,
    as_hazard,
    default_max_level,
    default_max_weight,
    make_plan,
)
from tailbound.survival.geometric import level as level_of
from tailbound.survival.geometric import quantile
from tailbound.survival.naive import calibrate_naive
from tailbound.survival.threshold import Betting, Rule, WeightedSum, calibrated_level, passes

Observe = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
Guarantee = Literal["marginal", "expected", "pac"]

GUARANTEES = ("marginal", "expected", "pac")

#: Each round of the lazy horizon raises the level by this factor.
_ROUND = 1.2


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationRecord:
    """What a calibration saw; arrays of shape (n_selected,).

    `indices` are the calibration prompts that were followed, `weights` their inverse selection
    probabilities, `horizons` how far they were to be followed, `first_event` the index of their
    first unsafe draw (0: none up to the horizon). `known_to` is the level up to which the
    miscoverage curve is known.
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    horizons: NDArray[np.int64]
    first_event: NDArray[np.int64]
    levels: NDArray[np.float64]
    known_to: float
    rule: Rule

    def level_without(self, dismissed: NDArray[np.bool_]) -> float:
        """The calibrated level if the events marked in `dismissed`, shape (n_selected,), were none.

        Prompts stop at an event, so what would have come after a dismissed one is not known; it
        is taken to be safe, and the level looked at is at most `known_to`. The answer is an upper
        end: with every missing verdict safe, the bound would be at most that of this level.
        """
        kept = (self.first_event > 0) & ~dismissed
        return calibrated_level(
            self.levels[kept], self.weights[kept], self.rule, max_level=self.known_to
        )[0]


def calibrate(
    p_hat: ArrayLike,
    observe: Observe,
    *,
    budget: float,
    alpha: float = 0.1,
    guarantee: Guarantee = "marginal",
    delta: float = 0.1,
    design: str = "balanced",
    max_weight: float | None = None,
    max_level: float | None = None,
    planning_p_hat: ArrayLike | PlanningHazard | None = None,
    reference_p_hat: ArrayLike | None = None,
    rng: Any = None,
) -> LowerPredictiveBound:
    """A lower predictive bound L on the time to unsafe sampling: P(T >= L(X)) >= 1 - alpha.

    `p_hat`, shape (n,), are the predicted risks of the calibration prompts, in (0, 1].
    `observe(indices, horizons)` follows the named prompts until each has had that many draws or an
    unsafe one, and returns for each the index of its first unsafe draw, 0 if there was none so
    far; a later call for the same prompt continues where it stopped. `budget` is the average
    number of planned draws per calibration prompt (for `balanced`: of expected real draws at the
    level where the bound is expected to end).

    `guarantee` is `marginal`, `expected` or `pac` (with `delta`); see `LowerPredictiveBound`.
    The last two select prompts independently and need `reference_p_hat`: predictions for prompts
    outside the calibration set, made without them (out-of-fold predictions of the training
    prompts), so that the design is fixed beforehand.

    `design` is one of `naive`, `basic`, `trimmed`, `optimized` (Davidov et al., arXiv 2506.13593)
    and `balanced`. `max_weight` is the largest 1 / pi planned for, and sets the cap on bounds to
    budget x max_weight (defaults: `designs.default_max_weight`); `max_level` is the highest level
    looked at (`designs.default_max_level`). `planning_p_hat` are recalibrated probabilities, or a
    function that makes them from p_hat: they steer who is followed, never the estimate.

    Raises `UsageError` for values out of range and for a guarantee without reference predictions.
    """
    bound, _ = calibrate_with_record(
        p_hat,
        observe,
        budget=budget,
        alpha=alpha,
        guarantee=guarantee,
        delta=delta,
        design=design,
        max_weight=max_weight,
        max_level=max_level,
        planning_p_hat=planning_p_hat,
        reference_p_hat=reference_p_hat,
        rng=rng,
    )
    return bound


def calibrate_with_record(
    p_hat: ArrayLike,
    observe: Observe,
    *,
    budget: float,
    alpha: float = 0.1,
    guarantee: Guarantee = "marginal",
    delta: float = 0.1,
    design: str = "balanced",
    max_weight: float | None = None,
    max_level: float | None = None,
    planning_p_hat: ArrayLike | PlanningHazard | None = None,
    reference_p_hat: ArrayLike | None = None,
    rng: Any = None,
) -> tuple[LowerPredictiveBound, CalibrationRecord]:
    """`calibrate`, with the record of what was seen."""
    p = check_probabilities(p_hat, "p_hat")
    n = len(p)
    _check(n, budget, alpha, delta, guarantee, design, max_weight, max_level)
    generator = np.random.default_rng(rng)
    if max_weight is None:
        max_weight = default_max_weight(design, alpha, n, guarantee)
    if max_level is None:
        max_level = default_max_level(design, alpha)
    if design == "naive":
        if guarantee != "marginal":
            raise UsageError(
                f"the naive design has unbounded weights and no {guarantee!r} guarantee: "
                "use another design"
            )
        return calibrate_naive(
            p, observe, budget=budget, alpha=alpha, delta=delta, max_level=max_level, rng=generator
        )

    planning = as_hazard(planning_p_hat, p)
    if planning.shape != p.shape:
        raise UsageError(
            f"planning_p_hat has shape {planning.shape}, p_hat {p.shape}: they must be the same"
        )
    reference = None
    if guarantee != "marginal":
        reference = _reference(reference_p_hat, planning_p_hat, guarantee)
    plan = make_plan(
        design,
        p,
        planning,
        budget=budget,
        alpha=alpha,
        max_weight=max_weight,
        max_level=max_level,
        reference=reference,
    )
    rule = _rule(guarantee, n=n, alpha=alpha, delta=delta, weight_bound=plan.weight_bound)
    if design == "balanced" and guarantee == "marginal":
        chosen = allocation.systematic(plan.selection, np.argsort(p), generator.random())
    else:
        chosen = generator.random(n) < plan.selection
    selected = np.flatnonzero(chosen)
    record = _follow(selected, p[selected], plan, rule, observe)
    tau, by_alpha = calibrated_level(
        record.levels[record.first_event > 0],
        record.weights[record.first_event > 0],
        rule,
        max_level=record.known_to,
    )
    # A prompt whose longest bound is cut by the cap cannot gain from a higher level.
    limited_by: LimitedBy = "alpha"
    if not by_alpha:
        capped = bool((quantile(p, plan.max_level) >= plan.cap).all())
        limited_by = "cap" if capped else "max_level"
    seen = record.first_event > 0
    counted = seen & (record.levels < tau)
    bound = LowerPredictiveBound(
        level=tau,
        cap=plan.cap,
        limited_by=limited_by,
        alpha=alpha,
        guarantee=guarantee,
        delta=delta,
        design=design,
        planned=plan.planned,
        spent=int(np.where(seen, record.first_event, record.horizons).sum()),
        n_calibration=n,
        n_selected=len(selected),
        weight_bound=plan.weight_bound,
        miscoverage=float(record.weights[counted].sum() / n),
        prompts_needed=rule.prompts_needed,
    )
    return bound, record


def _follow(
    selected: NDArray[np.int64],
    p: NDArray[np.float64],
    plan: Plan,
    rule: Rule,
    observe: Observe,
) -> CalibrationRecord:
    """Follow the selected prompts, raising the level in rounds until the curve passes alpha.

    All survivors are extended to a level before the curve is looked at, and the curve with fixed
    weights is monotone, so the level found is exactly the one that full horizons would give.
    """
    weights = 1.0 / plan.selection[selected]
    first = np.zeros(len(selected), dtype=np.int64)
    horizons = np.zeros(len(selected), dtype=np.int64)
    levels = np.ones(len(selected))
    tau = min(plan.first_level, plan.max_level)
    if not rule.feasible:
        tau = 0.0
    alive = np.arange(len(selected))
    while True:
        asked = np.minimum(quantile(p[alive], tau), plan.cap) - 1
        longer = asked > horizons[alive]
        further, asked = alive[longer], asked[longer]
        if further.size:
            answer = np.asarray(observe(selected[further], asked), dtype=np.int64)
            if answer.shape != further.shape or (answer < 0).any():
                raise ValueError(
                    f"observe must return {further.size} indices >= 0, one for each prompt"
                )
            horizons[further] = asked
            # An event beyond the horizon (an overshoot) is not yet seen at this level.
            met = (answer > 0) & (answer <= asked)
            hit = further[met]
            first[hit] = answer[met]
            levels[hit] = level_of(p[hit], first[hit])
            alive = alive[first[alive] == 0]
        seen = first > 0
        if (
            tau >= plan.max_level
            or not rule.feasible
            or passes(levels[seen], weights[seen], rule, known_to=tau)
        ):
            break
        tau = min(tau * _ROUND, plan.max_level)
    return CalibrationRecord(
        indices=selected,
        weights=weights,
        horizons=horizons,
        first_event=first,
        levels=levels,
        known_to=tau,
        rule=rule,
    )


def _rule(guarantee: str, *, n: int, alpha: float, delta: float, weight_bound: float) -> Rule:
    if guarantee == "pac":
        return Betting(n=n, alpha=alpha, delta=delta, weight_bound=weight_bound)
    if guarantee == "expected":
        return WeightedSum(
            alpha * (n + 1) - weight_bound,
            prompts_needed=max(1, math.ceil(weight_bound / alpha - 1)),
        )
    return WeightedSum(alpha * n, prompts_needed=1)


def _reference(
    reference_p_hat: ArrayLike | None,
    planning_p_hat: ArrayLike | PlanningHazard | None,
    guarantee: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference_p_hat is None:
        raise UsageError(
            f"the {guarantee!r} guarantee needs reference_p_hat, out-of-fold predictions for "
            "prompts outside the calibration set: give them, or use guarantee='marginal'"
        )
    reference = check_probabilities(reference_p_hat, "reference_p_hat")
    if reference.size == 0:
        raise UsageError("reference_p_hat is empty: give predictions for prompts outside the set")
    # An array of planning probabilities says nothing about the reference prompts.
    hazard = planning_p_hat if callable(planning_p_hat) else None
    return reference, as_hazard(hazard, reference)


def _check(
    n: int,
    budget: float,
    alpha: float,
    delta: float,
    guarantee: str,
    design: str,
    max_weight: float | None,
    max_level: float | None,
) -> None:
    if n == 0:
        raise UsageError("there are no calibration prompts: add prompts, or give them a share")
    if not (budget > 0 and math.isfinite(budget)):
        raise UsageError(f"budget must be positive, not {budget}: draws per calibration prompt")
    for name, value in (("alpha", alpha), ("delta", delta)):
        if not 0 < value < 1:
            raise UsageError(f"{name} must lie strictly between 0 and 1, not {value}")
    if guarantee not in GUARANTEES:
        raise UsageError(f"unknown guarantee {guarantee!r}: use {', '.join(GUARANTEES)}")
    if design not in DESIGNS:
        raise UsageError(f"unknown design {design!r}: use {', '.join(DESIGNS)}")
    if max_weight is not None and not max_weight >= 1:
        raise UsageError(f"max_weight is 1 / smallest selection probability, not {max_weight}")
    if max_level is not None and not 0 < max_level < 1:
        raise UsageError(f"max_level must lie strictly between 0 and 1, not {max_level}")
