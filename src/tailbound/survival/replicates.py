r"""Replicates: unspent budget buys further independent times of every calibration prompt.

Following stops at the first unsafe draw, and once every prompt is followed to its horizon more
draws per prompt cannot make the horizons more telling: what is left of the budget would not be
spent. It buys copies. Copy c of prompt i is selected by itself with probability pi_i and brings a
time T_ic of its own, independent of the others given the prompt; the loss of the prompt is the mean
over its r copies,

    loss_i(tau) = (1 / r) sum_c S_ic / pi_i 1{u_ic < tau},

so that every event weighs 1 / (r pi_i). Its expectation is P(T_i < q_i(tau)) as with one copy, the
part of its variance that comes from T and from the selection is divided by r, and the part that
comes from which prompts there are stays.

*What stays valid.* r and pi(.) are fixed before any calibration draw, from the reference prompts,
so that losses of prompts are exchangeable with that of a new prompt, rise with tau and lie in
[0, 1 / pi_i] within [0, w_bound]: all r copies may be selected and unsafe, so the largest loss of a
prompt is *not* smaller than with one copy. Conformal risk control needs just that, and `marginal`
holds with the same N (prompts, not copies) and the same w_bound. It pays w_bound for the prompt
that was not seen and gets the weight w / r of the event at which the bound ends back, where r = 1
gets back w: alpha is used less far, by about (1 - 1 / r) w / N. `plug-in` rests on unbiasedness
alone. Copies of one prompt are dependent, so that neither their number of events is binomial nor a
bet on each of them fair: `pac` is stated with one copy only.

*How many.* The largest r whose expected real draws, up to the level at which the bound is expected
to end, stay within the budget: a forecast from p_hat, never from what calibration brings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tailbound.survival.designs import Plan, PopulationForecast, horizons
from tailbound.survival.predicted import PredictedTimes, expected_draws

#: At most so many are chosen without being asked for by number.
MOST = 10

#: Share of alpha that `marginal` may lose to replicates that nobody asked for by number.
LOST = 0.05

#: The lazy horizon ends at about so many times the level of the bound.
_OVERSHOOT = 1.05

#: Share of a hard limit on draws that replicates are planned to take at most.
_OF_LIMIT = 0.8


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """What one copy of every prompt is expected to bring, up to the level where the bound ends.

    `draws` are real draws per prompt, `event_weight` is the mean weight of an event.
    """

    draws: float
    event_weight: float


def forecast_replicate(
    plan: Plan, predicted: PredictedTimes, planning: PredictedTimes, *, alpha: float
) -> Replicate:
    """One copy of the prompts of a `plan`, up to where the miscoverage is expected to pass alpha.

    `predicted` and `planning` are those of the prompts that it was planned with, whose selection
    probabilities are `plan.reference_selection`. Where these fall from step to step, those of the
    first draw count: more draws than will be made, and the largest weight. The event at which the
    bound ends must be seen, which takes one draw more than the bound leaves, and a level above it.

    >>> from tailbound.survival.designs import plan_weighted
    >>> from tailbound.survival.predicted import Geometric
    >>> risks = Geometric(np.full(100, 0.01))
    >>> plan = plan_weighted(
    ...     *("balanced", risks, risks), budget=100, alpha=0.1, max_weight=4.0, max_level=0.95,
    ...     reference=None,
    ... )
    >>> one = forecast_replicate(plan, risks, risks, alpha=0.1)
    >>> round(one.draws, 1), one.event_weight
    (11.4, 1.0)
    """
    pi = plan.reference_selection
    outlook = PopulationForecast(predicted, planning, cap=plan.cap, max_level=plan.max_level)
    level = outlook.level_of(alpha)
    horizon = horizons(predicted, level, plan.cap)
    reached = horizons(predicted, min(_OVERSHOOT * level, plan.max_level), plan.cap)
    reached = np.minimum(reached + 1, plan.cap - 1)
    draws = float((pi * expected_draws(planning, reached)).mean())
    missed = planning.level(horizon)
    seen = float((pi * missed).mean())
    if plan.steps is not None or seen <= 0:
        return Replicate(draws=draws, event_weight=plan.weight_bound)
    return Replicate(draws=draws, event_weight=float(missed.mean()) / seen)


def affordable_replicates(
    one: Replicate,
    *,
    n: int,
    budget: float,
    alpha: float,
    guarantee: str,
    asked: int | None,
    max_draws: float | None = None,
) -> int:
    """How many copies of `n` prompts `budget` draws per prompt pay for, 1 to `asked`.

    Without a number `asked` for, at most `MOST`, and for `marginal` only as many as cost it no more
    than `LOST` of alpha. Of a hard limit `max_draws` a fifth is kept, so that it does not end the
    bound. The result is a function of the forecast and of n alone.

    >>> one = Replicate(draws=24.0, event_weight=1.0)
    >>> shared = dict(budget=100, alpha=0.1, guarantee="marginal")
    >>> affordable_replicates(one, n=2000, asked=None, **shared)
    4
    >>> affordable_replicates(one, n=2000, asked=3, **shared)
    3
    >>> affordable_replicates(one, n=100, asked=None, **shared)
    2
    """
    most = MOST if asked is None else asked
    draws = budget if max_draws is None else min(budget, _OF_LIMIT * max_draws)
    if one.draws > 0:
        most = min(most, math.floor(draws / one.draws * (1 + 1e-9)))
    if asked is None and guarantee == "marginal":
        kept = 1 - LOST * alpha * (n + 1) / one.event_weight  # 1 / r must be as much
        most = min(most, math.floor((1 + 1e-9) / kept)) if kept > 0 else most
    return max(most, 1)
