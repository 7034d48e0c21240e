"""How a calibration sees, and what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.survival.rules import Rule, calibrated_level

Observe = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationRecord:
    """What a calibration saw; arrays of shape (n_selected,).

    `indices` are the calibration prompts that were followed, `weights` their inverse selection
    probabilities, `horizons` how far they were followed at most, `first_event` the index of their
    first unsafe draw (0: none up to the horizon), `levels` the level from which on that event
    counts (1 where there was none). `sure_to` is the level to which everybody was to be followed
    whatever they bring, so that it does not depend on any event. The miscoverage curve is known up
    to the level `known_to`, and
    `rule` says how much of it the guarantee admits.
    """

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    horizons: NDArray[np.int64]
    first_event: NDArray[np.int64]
    levels: NDArray[np.float64]
    sure_to: float
    known_to: float
    rule: Rule

    def level_without(self, dismissed: NDArray[np.bool_]) -> float:
        """The level if the events marked in `dismissed`, shape (n_selected,), had been none.

        For events that may not be real, such as missing verdicts: counted as unsafe they give the
        bound itself, which is the lower end of a bracket, and this is the upper end, from the same
        draws, selection and weights. A prompt stops at its first event, so what would have come
        after a dismissed one is not known and is taken to be safe. Where the answer is `known_to`
        the curve was not followed far enough to see an end: the level is that or higher.
        """
        kept = (self.first_event > 0) & ~dismissed
        return calibrated_level(
            self.levels[kept], self.weights[kept], self.rule, max_level=self.known_to
        )[0]
