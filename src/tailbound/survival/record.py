"""How a calibration sees, and what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.survival.rules import Rule, calibrated_level

Observe = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
"""See `calibrate`; with replicates, index c n + i is copy c of prompt i of n."""


def among(observe: Observe, members: NDArray[np.int64], n: int) -> Observe:
    """`observe` of n prompts, for indices that count within `members`; copies stay copies.

    >>> observe = among(lambda indices, horizons: indices, np.array([3, 5]), 10)
    >>> observe(np.array([0, 1, 2, 3]), np.ones(4)).tolist()
    [3, 5, 13, 15]
    """
    m = len(members)

    def inner(indices: NDArray[np.int64], horizons: NDArray[np.int64]) -> NDArray[np.int64]:
        return observe(indices // m * n + members[indices % m], horizons)

    return inner


@dataclass(frozen=True, eq=False, kw_only=True)
class CalibrationRecord:
    """What a calibration saw; arrays of shape (m,), one entry for each copy that was followed.

    `indices` are the calibration prompts that were followed, `copies` the number of the copy, 0
    without replicates (a prompt is named as often as copies of it were followed), `weights` their
    inverse selection probabilities divided by the number of replicates, `horizons` how far they
    were followed at most, `first_event` the index of their first unsafe draw (0: none up to the
    horizon), `levels` the level from which on that event counts (1 where there was none). `sure_to`
    is the level to which everybody was to be followed whatever they bring, so that it does not
    depend on any event. The miscoverage curve is known up to the level `known_to`, and
    `rule` says how much of it the guarantee admits.
    """

    indices: NDArray[np.int64]
    copies: NDArray[np.int64]
    weights: NDArray[np.float64]
    horizons: NDArray[np.int64]
    first_event: NDArray[np.int64]
    levels: NDArray[np.float64]
    sure_to: float
    known_to: float
    rule: Rule

    def level_without(self, dismissed: NDArray[np.bool_]) -> float:
        """The level if the events marked in `dismissed`, shape (m,), had been none.

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
