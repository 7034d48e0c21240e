"""Planning: the hazard that allocation reckons with, and how many prompts a guarantee needs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival.bound import check_probabilities
from tailbound.survival.designs import default_max_weight
from tailbound.survival.threshold import Betting

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RecalibratedHazard:
    """A monotone map from p_hat to observed rates: log-log interpolation between bins.

    Outside the bins the ratio of the nearest bin is kept. Used for planning only.
    """

    log_p_hat: FloatArray
    log_rate: FloatArray

    def __call__(self, p_hat: FloatArray) -> FloatArray:
        """Recalibrated probabilities in (0, 1], the shape of `p_hat`."""
        x = np.log(p_hat)
        inside = np.interp(x, self.log_p_hat, self.log_rate)
        below = np.minimum(x - self.log_p_hat[0], 0.0)
        above = np.maximum(x - self.log_p_hat[-1], 0.0)
        return np.asarray(np.exp(np.minimum(inside + below + above, 0.0)), dtype=np.float64)


def recalibrate_hazard(p_hat: ArrayLike, unsafe: ArrayLike, draws: ArrayLike) -> RecalibratedHazard:
    """Recalibrate predictions against the counts of held-out training prompts.

    `p_hat` are out-of-fold predictions, `unsafe` events in `draws` draws, all of shape (n,). Up to
    20 bins of equal size by p_hat are pooled until their rates rise (isotonic regression, weighted
    by draws); the rate of a pool is (k + 1/2) / draws, interpolated on the log-log scale. Pooling
    comes first: half an event in every bin would put the rates of safe prompts far too high.
    """
    from scipy.optimize import isotonic_regression

    p = check_probabilities(p_hat, "p_hat")
    k = np.asarray(unsafe, dtype=np.float64)
    n = np.broadcast_to(np.asarray(draws, dtype=np.float64), p.shape)
    if p.size == 0 or k.shape != p.shape:
        raise UsageError(f"unsafe has shape {k.shape}, p_hat {p.shape}: they must be the same")
    order = np.argsort(p, kind="stable")
    bins = np.array_split(order, max(1, min(20, p.size // 20)))
    log_p = np.array([np.log(p[b]).mean() for b in bins])
    events = np.array([k[b].sum() for b in bins])
    weight = np.array([n[b].sum() for b in bins])
    pools = isotonic_regression(events / weight, weights=weight).blocks
    starts = pools[:-1]
    drawn = np.add.reduceat(weight, starts)
    rate = np.minimum((np.add.reduceat(events, starts) + 0.5) / drawn, 1.0)
    where = np.add.reduceat(log_p * weight, starts) / drawn
    # Half an event may bring neighbours out of order again.
    rate = np.maximum.accumulate(rate)
    kept = np.append(np.diff(where) > 0, True)
    return RecalibratedHazard(where[kept], np.log(rate)[kept])


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What a guarantee needs.

    With fewer than `minimum_prompts` calibration prompts no bound but L = 1 can be stated; from
    about `comfortable_prompts` on the guarantee costs at most a quarter of alpha. `draws` is
    `comfortable_prompts` times the budget; `longest_bound` the cap, budget x max_weight.
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
    """
    weight = max_weight or default_max_weight("balanced", alpha, 10**9, guarantee)
    if budget is None:
        if bound_length is None:
            raise UsageError("give budget or bound_length: one of them sets how far prompts go")
        budget = bound_length / weight
    if guarantee == "pac":
        minimum = Betting(n=1, alpha=alpha, delta=delta, weight_bound=weight).prompts_needed
        # Standard error of a weighted mean near alpha against a quarter of alpha.
        comfortable = max(
            minimum, math.ceil(2 * math.log(1 / delta) * alpha * weight / 4 / (alpha / 4) ** 2)
        )
    elif guarantee == "expected":
        minimum = max(1, math.ceil(weight / alpha - 1))
        comfortable = math.ceil(4 * weight / alpha)
    elif guarantee == "marginal":
        minimum, comfortable = 1, math.ceil(40 / alpha)
    else:
        raise UsageError(f"unknown guarantee {guarantee!r}: use marginal, expected or pac")
    return Requirement(
        guarantee=guarantee,
        minimum_prompts=minimum,
        comfortable_prompts=comfortable,
        budget=budget,
        draws=math.ceil(comfortable * budget),
        longest_bound=math.ceil(budget * weight),
    )
