"""Calibration: the one entry point, used by the audit and by simulations alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival import allocation
from tailbound.survival.bound import LimitedBy, LowerPredictiveBound, check_predictions
from tailbound.survival.designs import (
    DESIGNS,
    Plan,
    PlanningHazard,
    as_planning,
    default_max_level,
    default_max_weight,
    plan_equal,
    plan_weighted,
)
from tailbound.survival.geometric import MAX_TIME
from tailbound.survival.limits import choose_limits
from tailbound.survival.naive import NaiveRecord, calibrate_naive
from tailbound.survival.predicted import PredictedTimes, earliest_last
from tailbound.survival.record import CalibrationRecord, Observe, among
from tailbound.survival.replicates import affordable_replicates, forecast_replicate
from tailbound.survival.rules import (
    Betting,
    Binomial,
    Rule,
    WeightedSum,
    calibrated_level,
    least_prompts,
    passes,
)

Guarantee = Literal["plug-in", "marginal", "pac"]

GUARANTEES = ("plug-in", "marginal", "pac")

#: Prompts set aside to plan with where there is no reference: at least and at most.
_ASIDE = (5, 1000)

#: The lazy horizon raises the level by a factor between these from round to round.
_LEAST_STEP, _GREATEST_STEP = 1.05, 2.0


def calibrate(
    p_hat: ArrayLike | PredictedTimes,
    observe: Observe,
    *,
    budget: float,
    alpha: float = 0.1,
    guarantee: Guarantee = "marginal",
    delta: float = 0.1,
    design: str = "balanced",
    max_weight: float | None = None,
    max_level: float | None = None,
    planning_p_hat: ArrayLike | PredictedTimes | PlanningHazard | None = None,
    reference_p_hat: ArrayLike | PredictedTimes | None = None,
    max_draws: float | None = None,
    max_follow_up: int | None = None,
    replicates: int | None = 1,
    rng: Any = None,
) -> LowerPredictiveBound:
    """A lower predictive bound L on the time to unsafe sampling: P(T >= L(X)) >= 1 - alpha.

    `p_hat`, shape (n,), are the predicted risks of the calibration prompts, in (0, 1]; or predicted
    distributions of T (`PredictedTimes`), where the hazard changes from draw to draw: `Hazards`, a
    `Mixture`, or a class of one's own. So are `planning_p_hat` and `reference_p_hat` then.
    `observe(indices, horizons)` follows the named prompts until each has had that many draws or an
    unsafe one, and returns for each the index of its first unsafe draw, 0 if there was none so
    far; a later call for the same prompt continues where it stopped. `budget` is the average
    number of planned draws per calibration prompt (for `balanced`: of expected real draws at the
    level where the bound is expected to end).

    `guarantee` is one of

    * `marginal` (default): N / (N + 1) miscoverage + weight_bound / (N + 1) <= alpha, conformal
      risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, 2024). The expected coverage, over
      calibrations and new prompts, is at least 1 - alpha in finite samples.
    * `plug-in`: weighted miscoverage <= alpha. On average over calibrations the coverage is about
      1 - alpha; about half of all calibrations fall slightly below. Where weights are large for the
      number of prompts (`basic`, `naive`), it may be far below; the `statement` then reports it.
      With fewer than 1 / alpha prompts nothing is drawn, and every bound is 1.
    * `pac`: with probability at least 1 - `delta` the coverage is at least 1 - alpha. An exact
      binomial test of each level where all followed prompts have the same weight, as with the
      design `balanced`; otherwise betting (see `rules.Binomial`, `rules.Betting`).

    `marginal` and `pac` select prompts at random, where `plug-in` with `balanced` selects
    systematically, and their design must be fixed in advance, from `reference_p_hat`: predictions
    for prompts outside the calibration set, made without them (the training prompts' out-of-fold
    predictions). Without these, a random tenth of the prompts (5 at least, 1,000 at most) is set
    aside to plan with and never observed; the others share the whole budget, and N counts them
    alone.

    `design` is one of `naive`, `basic`, `trimmed`, `optimized` (Davidov et al., arXiv 2506.13593)
    and `balanced`. `max_weight` is the largest 1 / pi planned for, and sets the cap on bounds to
    budget x max_weight (`basic` and `naive` have no cap and take none); `max_level` is the highest
    level considered. For `balanced` with `marginal` or `plug-in` both are chosen for the longest
    bounds that predictions forecast (`limits.choose_limits`) unless they are given; otherwise the
    defaults are `designs.default_max_weight` and `designs.default_max_level`.
    `planning_p_hat` are recalibrated probabilities, or a function that computes them from p_hat:
    they decide which prompts are followed, and do not enter the estimate.

    `max_draws` is a hard limit on the average number of draws per calibration prompt, for
    predictions too bad to plan with: levels are raised only as far as it allows, and a lower level
    is always valid. `max_follow_up` is the number of draws after which nobody can be followed any
    further: the cap is then at most one more. Neither is for `naive`. `rng` selects the prompts: a
    generator, or a seed for one.

    `replicates` is the most independent times that each prompt may bring, None for as many as
    `survival.replicates` chooses: what is forecast to be left of the budget buys them. There are as
    many as the forecast admits, whatever comes out. `observe` is then asked about copy c of prompt
    i under the index c n + i, and must give each copy draws of its own. Not for `pac` or `naive`.

    Raises `UsageError` for values out of range, for `naive` with another guarantee than `plug-in`
    or a budget of 1 or less, and for replicates where there are none.

    >>> generator = np.random.default_rng(0)
    >>> risks = 10 ** generator.uniform(-4, -1, size=1000)
    >>> times = generator.geometric(risks)
    >>> def observe(indices, horizons):
    ...     return np.where(times[indices] <= horizons, times[indices], 0)
    >>> bound = calibrate(risks, observe, budget=50, rng=0)
    >>> round(bound.level, 3), bound.limited_by, bound.spent <= 50 * 1000
    (0.102, 'alpha', True)
    >>> bound.predict([0.01, 0.001, 0.0001]).tolist()
    [11, 108, 500]
    """
    return calibrate_with_record(
        *(p_hat, observe),
        budget=budget,
        alpha=alpha,
        guarantee=guarantee,
        delta=delta,
        design=design,
        max_weight=max_weight,
        max_level=max_level,
        planning_p_hat=planning_p_hat,
        reference_p_hat=reference_p_hat,
        max_draws=max_draws,
        max_follow_up=max_follow_up,
        replicates=replicates,
        rng=rng,
    )[0]


def calibrate_with_record(
    p_hat: ArrayLike | PredictedTimes,
    observe: Observe,
    *,
    budget: float,
    alpha: float = 0.1,
    guarantee: Guarantee = "marginal",
    delta: float = 0.1,
    design: str = "balanced",
    max_weight: float | None = None,
    max_level: float | None = None,
    planning_p_hat: ArrayLike | PredictedTimes | PlanningHazard | None = None,
    reference_p_hat: ArrayLike | PredictedTimes | None = None,
    max_draws: float | None = None,
    max_follow_up: int | None = None,
    replicates: int | None = 1,
    spare: float = 1.0,
    rng: Any = None,
) -> tuple[LowerPredictiveBound, CalibrationRecord]:
    """`calibrate`, with the record of what was seen.

    Replicates may take `spare` times the budget.

    >>> def never(indices, horizons):
    ...     return np.zeros(len(indices), dtype=np.int64)
    >>> bound, record = calibrate_with_record(np.full(100, 0.01), never, budget=1000, rng=0)
    >>> bound.limited_by, len(record.indices), int(record.horizons.max())
    ('max_level', 90, 298)
    """
    predicted = check_predictions(p_hat, "p_hat")
    n = len(predicted)
    given = (max_weight, max_level, max_draws, replicates)
    _check(n, budget, alpha, delta, guarantee, design, *given)
    if guarantee == "pac" or design == "naive":
        replicates = _only_one(replicates, guarantee, design)
    if max_follow_up is not None and max_follow_up < 1:
        raise UsageError(f"max_follow_up must be at least 1, not {max_follow_up}: draws")
    generator = np.random.default_rng(rng)
    if design == "naive":
        _check_naive(guarantee, budget, max_draws, max_follow_up, n, alpha)
        return calibrate_naive(
            *(predicted, observe),
            budget=budget,
            alpha=alpha,
            delta=delta,
            max_level=max_level or default_max_level(design, alpha),
            rng=generator,
        )
    planning = as_planning(planning_p_hat, predicted)
    if len(planning) != n:
        raise UsageError(
            f"planning_p_hat has shape ({len(planning)},), p_hat ({n},): they must be the same"
        )
    limit = math.inf if max_draws is None else n * max_draws
    reference, followed = None, None
    if guarantee == "plug-in":
        pass
    elif reference_p_hat is None:
        aside, followed = _set_aside(n, generator)
        reference = (predicted.take(aside), planning.take(aside))
        predicted, planning = predicted.take(followed), planning.take(followed)
        observe = among(observe, followed, n)
        budget, n = budget * n / len(followed), len(followed)
    else:
        reference = _reference(reference_p_hat, planning_p_hat)
    plan = _plan(
        *(design, predicted, planning, reference),
        budget=budget,
        alpha=alpha,
        guarantee=guarantee,
        delta=delta,
        max_weight=max_weight,
        max_level=max_level,
        longest=MAX_TIME if max_follow_up is None else max_follow_up + 1,
    )
    rule = _rule(
        guarantee,
        n=n,
        alpha=alpha,
        delta=delta,
        weight_bound=plan.weight_bound,
        sample_size=plan.sample_size,
    )
    copies, planned = _replicates(
        *(plan, reference or (predicted, planning), replicates),
        budget=spare * budget,
        alpha=alpha,
        guarantee=guarantee,
        max_draws=max_draws,
    )
    systematic = design == "balanced" and reference is None
    units, limits = _select_copies(predicted, plan, copies, generator, systematic=systematic)
    record = _follow(
        *(units, limits, predicted.take(units % n), plan, copies, rule, observe), limit=limit
    )
    seen = record.first_event > 0
    tau_hat, by_alpha = calibrated_level(
        record.levels[seen], record.weights[seen], rule, max_level=record.known_to
    )
    bound = LowerPredictiveBound(
        level=tau_hat,
        cap=plan.cap,
        limited_by="alpha" if by_alpha else _limit(tau_hat, plan, predicted),
        alpha=alpha,
        guarantee=guarantee,
        delta=delta,
        design=design,
        planned=planned,
        spent=int(np.where(seen, record.first_event, record.horizons).sum()),
        n_calibration=n,
        n_selected=np.unique(record.indices).size,
        weight_bound=plan.weight_bound,
        miscoverage=float(record.weights[seen & (record.levels < tau_hat)].sum() / n),
        prompts_needed=rule.prompts_needed,
        replicates=copies,
    )
    if followed is not None:
        record = replace(record, indices=followed[record.indices])
    return bound, record


def bound_at(
    bound: LowerPredictiveBound, record: CalibrationRecord, alpha: float
) -> LowerPredictiveBound:
    """The bound at a smaller miscoverage, from the draws that `bound` rests on.

    `bound` and `record` come from `calibrate_with_record`. Selection, weights and cap are those
    that were fixed for the alpha of `bound`, and the miscoverage curve is known beyond the level at
    which it passes the smaller one: the guarantee is the same as that of a calibration at `alpha`
    with this design. Bounds at several alphas hold each by itself. Raises `UsageError` for an
    `alpha` that is not in (0, bound.alpha].

    >>> generator = np.random.default_rng(0)
    >>> risks = 10 ** generator.uniform(-4, -1, size=1000)
    >>> times = generator.geometric(risks)
    >>> def observe(indices, horizons):
    ...     return np.where(times[indices] <= horizons, times[indices], 0)
    >>> bound, record = calibrate_with_record(risks, observe, budget=50, rng=0)
    >>> bound_at(bound, record, 0.05).predict([0.01, 0.001, 0.0001]).tolist()
    [6, 55, 500]
    """
    if not 0 < alpha <= bound.alpha:
        raise UsageError(f"alpha must lie in (0, {bound.alpha:g}], not {alpha}")
    n = bound.n_calibration
    equal = bound.guarantee == "pac" and bound.design == "balanced"
    rule = _rule(
        bound.guarantee,
        n=n,
        alpha=alpha,
        delta=bound.delta,
        weight_bound=bound.weight_bound,
        sample_size=bound.n_selected if equal else None,
    )
    seen = record.first_event > 0
    level, miscoverage, by_alpha = 0.0, 0.0, True
    if rule.feasible and isinstance(record, NaiveRecord):
        level, miscoverage, by_alpha = replace(record, alpha=alpha).crossing(seen)
    elif rule.feasible:
        levels, weights = record.levels[seen], record.weights[seen]
        level, by_alpha = calibrated_level(levels, weights, rule, max_level=record.known_to)
        miscoverage = float(weights[levels < level].sum() / n)
    return replace(
        bound,
        alpha=alpha,
        level=level,
        limited_by="alpha" if by_alpha else bound.limited_by,
        miscoverage=miscoverage,
        prompts_needed=rule.prompts_needed,
    )


def _plan(
    design: str,
    predicted: PredictedTimes,
    planning: PredictedTimes,
    reference: tuple[PredictedTimes, PredictedTimes] | None,
    *,
    budget: float,
    alpha: float,
    guarantee: str,
    delta: float,
    max_weight: float | None,
    max_level: float | None,
    longest: int,
) -> Plan:
    """The design with its numbers filled in, limits included where they are not given."""
    n = len(predicted)
    level = max_level or default_max_level(design, alpha)
    if guarantee == "pac" and design == "balanced":
        assert reference is not None
        return plan_equal(
            n,
            budget=budget,
            alpha=alpha,
            delta=delta,
            max_weight=max_weight,
            max_level=level,
            reference=reference,
            longest=longest,
        )
    weight = max_weight or default_max_weight(design, alpha, n, guarantee)
    if design == "balanced":
        limits = choose_limits(
            *(reference or (predicted, planning)),
            n=n,
            budget=budget,
            alpha=alpha,
            guarantee=guarantee,
            max_weight=max_weight,
            max_level=max_level,
            longest=longest,
        )
        weight, level = limits.max_weight, limits.max_level
    return plan_weighted(
        *(design, predicted, planning),
        budget=budget,
        alpha=alpha,
        max_weight=weight,
        max_level=level,
        reference=reference,
        longest=longest,
    )


def _check_naive(
    guarantee: str,
    budget: float,
    max_draws: float | None,
    max_follow_up: int | None,
    n: int,
    alpha: float,
) -> None:
    """Raise `UsageError` for what the naive design does not have."""
    if guarantee != "plug-in":
        raise UsageError(
            f"the naive design has unbounded weights and no {guarantee!r} guarantee: "
            "use another design, or guarantee='plug-in'"
        )
    if max_draws is not None:
        raise UsageError("the naive design takes no max_draws: lower its budget")
    if max_follow_up is not None:
        raise UsageError("the naive design takes no max_follow_up: use another design")
    if not budget > 1:
        raise UsageError(
            f"the naive design needs a budget above 1, not {budget:g}: it stops every prompt "
            "at its first draw and sees nothing; use another design"
        )
    if n < least_prompts(alpha):
        raise UsageError(
            f"no bound can be stated at alpha = {alpha:g} with {n} calibration prompts: "
            f"{least_prompts(alpha)} are needed"
        )


def _limit(tau_hat: float, plan: Plan, predicted: PredictedTimes) -> LimitedBy:
    """What other than alpha kept the bound from being longer."""
    if tau_hat < plan.max_level:
        return "max_draws"
    # The largest level was reached: which of the two cuts the bounds of most prompts?
    capped = predicted.quantile(plan.max_level) >= plan.cap
    return "cap" if 2 * np.count_nonzero(capped) >= len(predicted) else "max_level"


def _replicates(
    plan: Plan,
    known: tuple[PredictedTimes, PredictedTimes],
    asked: int | None,
    *,
    budget: float,
    alpha: float,
    guarantee: str,
    max_draws: float | None,
) -> tuple[int, float]:
    """How many copies of each prompt there are, and the expected draws of all of them."""
    n = len(plan.selection)
    if asked == 1:
        return 1, plan.planned
    one = forecast_replicate(plan, *known, alpha=alpha)
    copies = affordable_replicates(
        one,
        n=n,
        budget=budget,
        alpha=alpha,
        guarantee=guarantee,
        asked=asked,
        max_draws=max_draws,
    )
    return copies, plan.planned if copies == 1 else copies * n * one.draws


def _only_one(replicates: int | None, guarantee: str, design: str) -> int:
    """1; raises `UsageError` where more are asked for."""
    if replicates is None or replicates == 1:
        return 1
    what = f"the guarantee {guarantee!r}" if guarantee == "pac" else f"the {design} design"
    raise UsageError(
        f"{what} takes no replicates, not {replicates}: times of one prompt are not independent "
        "prompts; use the guarantee marginal or plug-in with another design, or replicates=1"
    )


def _select_copies(
    predicted: PredictedTimes,
    plan: Plan,
    copies: int,
    rng: np.random.Generator,
    *,
    systematic: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """`_select` for each copy by itself; copy c of prompt i of n has the number c n + i."""
    found = [_select(predicted, plan, rng, systematic=systematic) for _ in range(copies)]
    units = [copy * len(predicted) + chosen for copy, (chosen, _) in enumerate(found)]
    ends = [limits for _, limits in found if limits is not None]
    return np.concatenate(units), np.concatenate(ends) if ends else None


def _select(
    predicted: PredictedTimes, plan: Plan, rng: np.random.Generator, *, systematic: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Who is followed, in increasing order, and for how many draws at most, if that is limited."""
    n = len(predicted)
    if plan.sample_size is not None:
        return np.sort(rng.choice(n, plan.sample_size, replace=False)).astype(np.int64), None
    order, uniforms = None, None
    if systematic:
        order = earliest_last(predicted)
        chosen = allocation.systematic(plan.selection, order, rng.random())
    else:
        uniforms = rng.random(n)
        chosen = uniforms < plan.selection
    selected = np.flatnonzero(chosen)
    if plan.steps is None:
        return selected, None
    return selected, plan.steps.limits(selected, rng, order=order, uniforms=uniforms)


def _follow(
    units: NDArray[np.int64],
    limits: NDArray[np.float64] | None,
    predicted: PredictedTimes,
    plan: Plan,
    copies: int,
    rule: Rule,
    observe: Observe,
    *,
    limit: float,
) -> CalibrationRecord:
    """Follow the selected `units`, raising the level in rounds until the curve passes alpha.

    Unit c n + i is copy c of prompt i.

    All survivors are extended to a level before the curve is looked at, and the curve with fixed
    weights is monotone, so the level found is exactly the one that full horizons would give. With
    a `limit` on the draws the last level is the highest whose draws are sure to stay within it.
    """
    m = len(units)
    copy, selected = np.divmod(units, len(plan.selection))
    weights = 1.0 / plan.selection[selected] / copies
    first, horizons = np.zeros(m, dtype=np.int64), np.zeros(m, dtype=np.int64)
    levels = np.ones(m)
    # Those who may still bring an event: none so far, and not yet at the cap.
    open_, open_predicted, open_reached = np.arange(m), predicted, np.zeros(m)
    end = float(plan.cap - 1)
    open_ends = np.full(m, end) if limits is None else np.minimum(limits, end)
    tau = min(plan.first_level, plan.max_level) if rule.feasible else 0.0
    known, sure, spent, last = 0.0, 0.0, 0, not rule.feasible

    def asked_at(level: float) -> NDArray[np.float64]:
        return np.minimum(open_predicted.quantile(level) - 1, open_ends)

    while True:
        asked = asked_at(tau)
        if spent + _extension(asked, open_reached) > limit:
            tau = _affordable(asked_at, open_reached, limit - spent, known, tau)
            asked, last = asked_at(tau), tau <= known * 1.01
        sure = sure if known > 0 else tau
        known = tau
        further = np.flatnonzero(asked > open_reached)
        if further.size:
            who, to = open_[further], asked[further].astype(np.int64)
            found = _observed(observe, units[who], to)
            hit = found > 0
            horizons[who] = to
            first[who[hit]] = found[hit]
            times = found[hit].astype(np.float64)
            levels[who[hit]] = open_predicted.take(further[hit]).level(times)
            if plan.steps is not None:
                seen_at = plan.steps.at(selected[who[hit]], found[hit])
                weights[who[hit]] = 1.0 / seen_at / copies
            spent += int((np.where(hit, found, to) - open_reached[further]).sum())
            open_reached[further] = asked[further]
            open_reached[further[hit]] = np.inf
            still = np.flatnonzero(open_reached < open_ends)
            open_, open_reached, open_ends = open_[still], open_reached[still], open_ends[still]
            open_predicted = open_predicted.take(still)
        if last or tau >= plan.max_level:
            break
        seen = first > 0
        if passes(levels[seen], weights[seen], rule, known_to=tau):
            break
        # The curve is about proportional to the level: aim a little short of the crossing.
        step = 0.97 / max(rule.used(weights[seen]), 1e-9)
        tau = min(tau * min(max(step, _LEAST_STEP), _GREATEST_STEP), plan.max_level)
    return CalibrationRecord(
        indices=selected,
        copies=copy,
        weights=weights,
        horizons=horizons,
        first_event=first,
        levels=levels,
        sure_to=sure,
        known_to=known,
        rule=rule,
    )


def _extension(asked: NDArray[np.float64], reached: NDArray[np.float64]) -> float:
    """Draws to get from `reached` to `asked` if nobody stops on the way."""
    return float(np.maximum(asked - reached, 0.0).sum())


def _affordable(
    asked_at: Callable[[float], NDArray[np.float64]],
    reached: NDArray[np.float64],
    draws: float,
    low: float,
    high: float,
) -> float:
    """The highest level in [low, high] whose extension takes at most `draws`, to 1 in 10,000."""
    while high > low * 1.0001 and high > 1e-15:
        middle = math.sqrt(low * high) if low > 0 else high / 16
        if _extension(asked_at(middle), reached) <= draws:
            low = middle
        else:
            high = middle
    return low


def _observed(
    observe: Observe, indices: NDArray[np.int64], horizons: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What `observe` answers, checked; events beyond the horizon are not seen yet."""
    answer = np.asarray(observe(indices, horizons))
    if answer.shape != indices.shape or not np.issubdtype(answer.dtype, np.integer):
        raise UsageError(
            f"observe must return {indices.size} integers, one for each prompt, and returned "
            f"{answer.dtype} of shape {answer.shape}"
        )
    if indices.size and int(answer.min()) < 0:
        raise UsageError(
            f"observe returned {int(answer.min())}: return the index of the first unsafe draw "
            "(1, 2, ...), or 0 if there was none"
        )
    return np.where(answer <= horizons, answer, 0).astype(np.int64)


def _rule(
    guarantee: str,
    *,
    n: int,
    alpha: float,
    delta: float,
    weight_bound: float,
    sample_size: int | None,
) -> Rule:
    if guarantee == "pac" and sample_size is not None:
        return Binomial(n=n, followed=sample_size, alpha=alpha, delta=delta)
    if guarantee == "pac":
        return Betting(n=n, alpha=alpha, delta=delta, weight_bound=weight_bound)
    if guarantee == "marginal":
        return WeightedSum(
            alpha * (n + 1) - weight_bound,
            prompts_needed=max(1, math.ceil(weight_bound / alpha - 1)),
            to_the_next_event=True,
        )
    return WeightedSum(alpha * n, prompts_needed=least_prompts(alpha), least=1.0)


def aside_size(n: int) -> int:
    """How many of n prompts are planned with where there is no reference: a tenth, within limits.

    >>> aside_size(9), aside_size(30), aside_size(300), aside_size(20_000)
    (4, 5, 30, 1000)
    """
    least, most = _ASIDE
    return min(max(least, n // 10), most, n // 2)


def _set_aside(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of n prompts are planned with, and which are left to be followed; both ascending."""
    if n < 2:
        raise UsageError(
            "1 calibration prompt leaves none to plan with: give more, or reference_p_hat"
        )
    order = rng.permutation(n).astype(np.int64)
    aside = aside_size(n)
    return np.sort(order[:aside]), np.sort(order[aside:])


def _reference(
    reference_p_hat: ArrayLike | PredictedTimes, planning_p_hat: Any
) -> tuple[PredictedTimes, PredictedTimes]:
    reference = check_predictions(reference_p_hat, "reference_p_hat")
    if len(reference) == 0:
        raise UsageError("reference_p_hat is empty: give predictions for prompts outside the set")
    # An array of planning probabilities says nothing about the reference prompts.
    hazard = planning_p_hat if callable(planning_p_hat) else None
    return reference, as_planning(hazard, reference)


def _check(
    n: int,
    budget: float,
    alpha: float,
    delta: float,
    guarantee: str,
    design: str,
    max_weight: float | None,
    max_level: float | None,
    max_draws: float | None,
    replicates: int | None,
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
    if replicates is not None and replicates < 1:
        raise UsageError(f"replicates must be at least 1, not {replicates}: times of each prompt")
    if max_draws is not None and not max_draws > 0:
        raise UsageError(f"max_draws must be positive, not {max_draws}: draws per prompt")
