r"""The published baseline: every prompt is censored at a random time.

C_i ~ Geometric(1 / B), whatever the prompt, so that C_i costs B draws on average (Davidov et al.,
arXiv 2506.13593). Whether T_i < q_i(tau) is seen where C_i >= q_i(tau), and weighted by
1 / P(C >= q_i(tau)). Weights change with tau, so the curve is not monotone: the level is the last
one before its first crossing of alpha. There is no lazy horizon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailbound.survival.bound import LowerPredictiveBound
from tailbound.survival.geometric import MAX_TIME, quantile_at_rate, rate
from tailbound.survival.geometric import level as level_of
from tailbound.survival.threshold import WeightedSum

if TYPE_CHECKING:
    from tailbound.survival.calibration import CalibrationRecord, Observe

_LEVELS = 300


def calibrate_naive(
    p_hat: NDArray[np.float64],
    observe: Observe,
    *,
    budget: float,
    alpha: float,
    delta: float,
    max_level: float,
    rng: np.random.Generator,
) -> tuple[LowerPredictiveBound, CalibrationRecord]:
    """The bound by the naive design, on a grid of 300 levels as published."""
    from tailbound.survival.calibration import CalibrationRecord

    n = len(p_hat)
    everyone = np.arange(n)
    censored = rng.geometric(1.0 / budget, size=n).astype(np.int64)
    first = np.asarray(observe(everyone, censored), dtype=np.int64)
    first = np.where(first <= censored, first, 0)
    keep = -np.log1p(-1.0 / budget)  # -log P(C > 1)
    levels = np.geomspace(1e-6, max_level, _LEVELS)
    tau, crossed, at_tau = 0.0, False, 0.0
    hit = np.flatnonzero(first > 0)
    hit_rates, hit_first, hit_censored = rate(p_hat[hit]), first[hit], censored[hit]
    for candidate in levels:
        times = quantile_at_rate(hit_rates, candidate)
        seen = (hit_first < times) & (hit_censored >= times)
        miscoverage = float(np.exp(keep * (times[seen] - 1.0)).sum() / n)
        if miscoverage > alpha:
            crossed = True
            break
        tau, at_tau = float(candidate), miscoverage
    bound = LowerPredictiveBound(
        level=tau,
        cap=MAX_TIME,
        limited_by="alpha" if crossed else "max_level",
        alpha=alpha,
        guarantee="marginal",
        delta=delta,
        design="naive",
        planned=float(n * budget),
        spent=int(np.where(first > 0, first, censored).sum()),
        n_calibration=n,
        n_selected=n,
        weight_bound=float("inf"),
        miscoverage=at_tau,
        prompts_needed=1,
    )
    record = CalibrationRecord(
        indices=everyone,
        weights=np.ones(n),
        horizons=censored,
        first_event=first,
        levels=np.where(first > 0, level_of(p_hat, first), 1.0),
        known_to=tau,
        rule=WeightedSum(alpha * n, prompts_needed=1),
    )
    return bound, record
