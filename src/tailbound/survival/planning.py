"""Planning: what a bound will need, and what it will give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UnreachableError, UsageError
from tailbound.survival.bound import check_probabilities
from tailbound.survival.designs import (
    FLOOR,
    PlanningHazard,
    PopulationForecast,
    as_hazard,
    default_max_level,
    default_max_weight,
    horizons,
    plan_equal,
    plan_weighted,
)
from tailbound.survival.geometric import level as level_of
from tailbound.survival.limits import choose_limits
from tailbound.survival.predicted import Geometric
from tailbound.survival.rules import binomial_allowance, least_followed, least_prompts

#: Selection probability to expect of `pac` where nothing is known about the prompts.
_TYPICAL_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a guarantee needs, whatever the prompts.

    With fewer than `minimum_prompts` calibration prompts no bound but L = 1 can be stated; from
    about `comfortable_prompts` on the guarantee costs at most a quarter of alpha (`plug-in`: the
    standard error of the coverage is at most a quarter of alpha or so). `draws` is
    `comfortable_prompts` times the budget; `longest_bound` the cap, budget x max_weight.
    `forecast` says more where predictions are at hand.
    """

    guarantee: str
    minimum_prompts: int
    comfortable_prompts: int
    budget: float
    draws: int
    longest_bound: int


def required(
    *,
    guarantee: str = "marginal",
    alpha: float = 0.1,
    delta: float = 0.1,
    budget: float | None = None,
    bound_length: int | None = None,
    max_weight: float | None = None,
) -> Requirement:
    """Calibration prompts and draws for a guarantee, and for bounds as long as `bound_length`.

    Give the `budget` (draws per calibration prompt), or the length of the longest bound that is
    wanted, from which the budget follows: bound_length / max_weight.

    >>> required(guarantee="pac", budget=100).minimum_prompts
    22
    """
    weight = max_weight or default_max_weight("balanced", alpha, 10**9, guarantee)
    if budget is None:
        if bound_length is None:
            raise UsageError("give budget or bound_length: one of them sets how far prompts go")
        budget = bound_length / weight
    if guarantee == "pac":
        # The m prompts that are followed admit k events; the bound then ends at the next one.
        followed = minimum = least_followed(alpha, delta)
        while (binomial_allowance(followed, alpha, delta) + 1) / (followed + 1) < 0.75 * alpha:
            followed = math.ceil(followed * 1.05)
        comfortable = math.ceil(followed / _TYPICAL_SHARE)
    elif guarantee == "marginal":
        # Weights are lowered as far as 1 where there are few prompts.
        minimum = max(1, math.ceil((max_weight or 1.0) / alpha - 1 - 1e-9))
        comfortable = math.ceil(4 * weight / alpha)
    elif guarantee == "plug-in":
        minimum, comfortable = least_prompts(alpha), math.ceil(40 / alpha)
    else:
        raise UsageError(f"unknown guarantee {guarantee!r}: use plug-in, marginal or pac")
    return Requirement(
        guarantee=guarantee,
        minimum_prompts=minimum,
        comfortable_prompts=comfortable,
        budget=budget,
        draws=math.ceil(comfortable * budget),
        longest_bound=math.ceil(budget * weight),
    )


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a calibration by the design `balanced` is expected to cost and to give.

    `aimed_coverage` is 1 - alpha and what the guarantee costs on top; `coverage_error` about the
    standard deviation of the coverage from calibration to calibration, with prompts selected
    independently; `followed` prompts take `draws` draws in all, up to the level where the bound is
    expected to end. Bounds longer than `cap` cannot come out.
    """

    guarantee: str
    prompts: int
    budget: float
    followed: int
    draws: int
    cap: int
    level: float
    aimed_coverage: float
    coverage_error: float
    median_bound: float
    log_mean_bound: float


def forecast(
    p_hat: ArrayLike,
    *,
    prompts: int,
    budget: float,
    alpha: float = 0.1,
    delta: float = 0.1,
    guarantee: str = "marginal",
    max_weight: float | None = None,
    planning_p_hat: ArrayLike | PlanningHazard | None = None,
) -> Forecast:
    """What calibrating `prompts` prompts at `budget` draws each will cost and give.

    `p_hat`, shape (n,), stands for the population: predictions for any of its prompts, or an
    assumed distribution of risks, such as `10 ** np.linspace(-6, -1, 1000)`; `planning_p_hat` are
    recalibrated probabilities, as for `calibrate`. Everything is reckoned from these; nothing is
    drawn. Where the guarantee cannot be had, the level is 0 and the bounds are 1.

    >>> expected = forecast(10 ** np.linspace(-4, -1, 500), prompts=1000, budget=50)
    >>> expected.followed, expected.draws, expected.median_bound
    (767, 48624, 36.0)
    """
    p = check_probabilities(p_hat, "p_hat")
    if p.size == 0 or prompts < 1 or not budget > 0:
        raise UsageError("p_hat must not be empty, and prompts and budget must be positive")
    needed = required(
        guarantee=guarantee, alpha=alpha, delta=delta, budget=budget, max_weight=max_weight
    )
    q = as_hazard(planning_p_hat, p)
    if guarantee == "pac":
        plan = plan_equal(
            prompts,
            budget=budget,
            alpha=alpha,
            delta=delta,
            max_weight=max_weight,
            max_level=default_max_level("balanced", alpha),
            reference=(p, q),
        )
        assert plan.sample_size is not None
        allowed = binomial_allowance(plan.sample_size, alpha, delta)
        aimed = (allowed + 1) / (plan.sample_size + 1)
        pi = np.full(p.shape, plan.sample_size / prompts)
    else:
        limits = choose_limits(
            *(Geometric(p), Geometric(q)),
            n=prompts,
            budget=budget,
            alpha=alpha,
            guarantee=guarantee,
            max_weight=max_weight,
        )
        plan = plan_weighted(
            *("balanced", p, q),
            budget=budget,
            alpha=alpha,
            max_weight=limits.max_weight,
            max_level=limits.max_level,
            reference=(p, q),
        )
        pi, aimed = plan.selection, alpha
    reachable = prompts >= needed.minimum_prompts
    outlook = PopulationForecast(p, q, cap=plan.cap, max_level=plan.max_level)
    if guarantee == "marginal":
        # The largest weight is paid for, and that of the event at which the bound ends got back.
        missed = level_of(q, horizons(p, outlook.level_of(alpha), plan.cap))
        next_weight = float(missed.mean() / (pi * missed).mean())
        aimed -= (plan.weight_bound - alpha - next_weight) / prompts
        reachable = reachable and alpha * (prompts + 1) >= plan.weight_bound
    reachable = reachable and aimed > 0
    level = outlook.level_of(aimed) if reachable else 0.0
    missed = level_of(q, horizons(p, level, plan.cap))
    return Forecast(
        guarantee=guarantee,
        prompts=prompts,
        budget=budget,
        followed=round(prompts * float(pi.mean())),
        draws=round(prompts * float((pi * missed / q).mean())),
        cap=plan.cap,
        level=level,
        aimed_coverage=1.0 - float(missed.mean()),
        coverage_error=math.sqrt(
            max(float((missed / pi).mean()) - float(missed.mean()) ** 2, 0.0) / prompts
        ),
        median_bound=outlook.median_bound(level),
        log_mean_bound=math.exp(outlook.log_mean_bound(level)),
    )


def budget_for(
    p_hat: ArrayLike,
    *,
    median_bound: float,
    prompts: int,
    alpha: float = 0.1,
    delta: float = 0.1,
    guarantee: str = "marginal",
    planning_p_hat: ArrayLike | PlanningHazard | None = None,
) -> Forecast:
    """The `forecast` at the smallest budget whose median bound is `median_bound` or longer.

    Raises `UnreachableError` where no budget gives it: the bound is then limited by alpha, that is
    by the prompts themselves, or the guarantee by their number.

    >>> expected = budget_for(10 ** np.linspace(-4, -1, 500), prompts=1000, median_bound=30)
    >>> expected.median_bound >= 30, expected.budget < 5
    (True, True)
    """

    def at(budget: float) -> Forecast:
        return forecast(
            p_hat,
            prompts=prompts,
            budget=budget,
            alpha=alpha,
            delta=delta,
            guarantee=guarantee,
            planning_p_hat=planning_p_hat,
        )

    # A cap of `median_bound` is needed, and everybody's full horizons are always enough.
    low, high = median_bound * FLOOR / 2, max(1.0, median_bound)
    best = at(high)
    while best.median_bound < median_bound and high < 64 * median_bound:
        high *= 2
        best = at(high)
    if best.median_bound < median_bound:
        raise UnreachableError(
            f"no budget gives {prompts} prompts a median bound of {median_bound:g} with the "
            f"guarantee {guarantee!r} at alpha = {alpha:g}: about {best.median_bound:.0f} is "
            "the longest; raise alpha, or give more prompts"
        )
    while high > 1.02 * low:
        middle = math.sqrt(low * high)
        tried = at(middle)
        if tried.median_bound >= median_bound:
            high, best = middle, tried
        else:
            low = middle
    return best
