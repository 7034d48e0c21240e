"""Recalibration of p_hat of the user's own: against counts of training prompts or units.

Predictions that were made elsewhere rank prompts better than they know how risky these are. Counts
of training prompts say how far they are off, in every range of p_hat. The map is strictly
increasing and a function of the training prompts alone, so every guarantee stays, whatever p_hat
was fitted on; with p_hat that was fitted on the training prompts themselves it finds too little to
correct.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.survival import RecalibratedHazard, recalibrate_hazard

LEAST_UNITS = 10
"""Training prompts below which nothing is recalibrated."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """What p_hat of the user's own became, and from what: `events` in `draws` of `units` prompts.

    Log-odds of p_hat (`log_odds`) and what they became (`recalibrated`), both increasing, with
    `slope` beyond the outermost (`RecalibratedHazard`).
    """

    units: int
    draws: int
    events: int
    log_odds: tuple[float, ...]
    recalibrated: tuple[float, ...]
    slope: float

    def __call__(self, p_hat: FloatArray) -> FloatArray:
        """Recalibrated probabilities, the shape of `p_hat`."""
        made = RecalibratedHazard(np.array(self.log_odds), np.array(self.recalibrated), self.slope)
        return made(p_hat)


def recalibration_of(
    p_hat: FloatArray, events: NDArray[np.int64], draws: NDArray[np.int64]
) -> Recalibration | None:
    """From counts of the training prompts, shape (prompts,) each; None where they say too little.

    Too little: fewer than `LEAST_UNITS` with a draw, or not one event.
    """
    seen = draws > 0
    if int(seen.sum()) < LEAST_UNITS or not events.any():
        return None
    made = recalibrate_hazard(p_hat[seen], events[seen], draws[seen])
    return Recalibration(
        units=int(seen.sum()),
        draws=int(draws.sum()),
        events=int(events.sum()),
        log_odds=tuple(made.log_odds.tolist()),
        recalibrated=tuple(made.recalibrated.tolist()),
        slope=made.slope,
    )
