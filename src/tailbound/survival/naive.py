r"""The published baseline: every prompt is censored at a random time.

C_i ~ Geometric(1 / B), whatever the prompt, so that C_i costs B draws on average (Davidov et al.,
arXiv 2506.13593). Whether T_i < q_i(tau) is seen where C_i >= q_i(tau), and weighted by
1 / P(C >= q_i(tau)). Weights change with tau, so the curve is not monotone: the level is the last
one before its first crossing of alpha. There is no lazy horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.survival.bound import LowerPredictiveBound
from tailbound.survival.geometric import MAX_TIME
from tailbound.survival.predicted import PredictedTimes
from tailbound.survival.record import CalibrationRecord, Observe
from tailbound.survival.rules import WeightedSum, least_prompts

_LEVELS = 300


@dataclass(frozen=True, eq=False, kw_only=True)
class NaiveRecord(CalibrationRecord):
    """As `CalibrationRecord`; weights change with the level, and `weights` are 1.

    `predicted` are the predictions of the n prompts; `keep` is -log P(C > 1).
    """

    predicted: PredictedTimes
    keep: float
    alpha: float

    def level_without(self, dismissed: NDArray[np.bool_]) -> float:
        """See `CalibrationRecord.level_without`."""
        return self.crossing((self.first_event > 0) & ~dismissed)[0]

    def crossing(self, counted: NDArray[np.bool_]) -> tuple[float, float, bool]:
        """The last level before the curve of the `counted` events crosses alpha, the miscoverage
        there, and whether it does cross."""
        hit = np.flatnonzero(counted)
        first, censored = self.first_event[hit], self.horizons[hit]
        predicted = self.predicted.take(hit)
        tau, at_tau = 0.0, 0.0
        for candidate in np.geomspace(1e-6, self.known_to, _LEVELS):
            times = predicted.quantile(candidate)
            seen = (first < times) & (censored >= times)
            total = np.exp(self.keep * (times[seen] - 1.0)).sum()
            miscoverage = float(total / len(self.first_event))
            if miscoverage > self.alpha:
                return tau, at_tau, True
            tau, at_tau = float(candidate), miscoverage
        return tau, at_tau, False


def calibrate_naive(
    predicted: PredictedTimes,
    observe: Observe,
    *,
    budget: float,
    alpha: float,
    delta: float,
    max_level: float,
    rng: np.random.Generator,
) -> tuple[LowerPredictiveBound, CalibrationRecord]:
    """The bound by the naive design, on a grid of 300 levels as published."""
    n = len(predicted)
    everyone = np.arange(n)
    censored = rng.geometric(1.0 / budget, size=n).astype(np.int64)
    first = np.asarray(observe(everyone, censored), dtype=np.int64)
    first = np.where(first <= censored, first, 0)
    record = NaiveRecord(
        indices=everyone,
        copies=np.zeros(n, dtype=np.int64),
        weights=np.ones(n),
        horizons=censored,
        first_event=first,
        levels=np.where(first > 0, predicted.level(first), 1.0),
        sure_to=0.0,
        known_to=max_level,
        rule=WeightedSum(alpha * n, prompts_needed=least_prompts(alpha), least=1.0),
        predicted=predicted,
        keep=float(-np.log1p(-1.0 / budget)),
        alpha=alpha,
    )
    tau, at_tau, crossed = record.crossing(first > 0)
    bound = LowerPredictiveBound(
        level=tau,
        cap=MAX_TIME,
        limited_by="alpha" if crossed else "max_level",
        alpha=alpha,
        guarantee="plug-in",
        delta=delta,
        design="naive",
        planned=float(n * budget),
        spent=int(np.where(first > 0, first, censored).sum()),
        n_calibration=n,
        n_selected=n,
        weight_bound=float("inf"),
        miscoverage=at_tau,
        prompts_needed=least_prompts(alpha),
    )
    return bound, record
