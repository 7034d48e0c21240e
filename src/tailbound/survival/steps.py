r"""Allocation by step: where hazards fall, a unit is followed with a chance that falls as well.

Unit i is still followed at draw t with probability R_i(t), fixed in advance and non-increasing in
t: it continues from step to step with probability R_i(t) / R_i(t - 1), and an event at t weighs
1 / R_i(t), the inverse product. The variance of the estimated miscoverage and its cost are about

    (1 / N) sum_i sum_t f_i(t) / R_i(t)   and   sum_i sum_t S_i(t - 1) R_i(t),

with f_i(t) = S_i(t - 1) h_i(t) the predicted probability of the event at t. Among non-increasing R
the best is

    R_i(t) = min(1, max(floor, s sqrt(g_i(t)))),

where g_i is the non-increasing regression of the hazards h_i on t with weights S_i(t - 1), the
slopes of the least concave majorant of expected events against expected draws. Where the hazard is
constant or rises, g_i is F / C, the events per draw up to the horizon, at every t: R_i is then the
selection probability of the design `balanced` (see `designs`), and nobody is stopped midway.

Draws are looked at in blocks: one by one at first, then in ever longer stretches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.survival import allocation
from tailbound.survival.predicted import PredictedTimes, expected_draws

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Draws that are a block of their own, and how much longer each later block is than the one before.
_SINGLE, _GROWTH = 32, 1.3


@dataclass(frozen=True, eq=False)
class StepChances:
    """R_i(t) of n units: `chances`, shape (n, m), for the draws of m blocks.

    Block b ends with draw `ends[b]`, shape (m,); what holds for the last block holds after it too.
    """

    ends: IntArray
    chances: FloatArray

    def at(self, units: NDArray[Any], time: IntArray) -> FloatArray:
        """R_i(t) for the named units at draws `time` >= 1, shapes (k,)."""
        return np.asarray(self.chances[units, self._block(time)], dtype=np.float64)

    def _block(self, time: IntArray) -> NDArray[np.intp]:
        return np.minimum(np.searchsorted(self.ends, time), len(self.ends) - 1)

    def limits(
        self,
        selected: IntArray,
        rng: np.random.Generator,
        *,
        order: NDArray[np.intp] | None = None,
        uniforms: FloatArray | None = None,
    ) -> FloatArray:
        """How many draws each of the `selected` units may be followed for; infinite for most.

        They are those that are followed at draw 1. With `uniforms`, shape (n,), unit i is followed
        while its number is below R_i(t); without, those that continue are selected systematically
        at every step, in `order` of all units.
        """
        if order is None:
            order = np.arange(len(self.chances))
        limits = np.full(len(self.chances), np.inf)
        going = np.zeros(len(self.chances), dtype=np.bool_)
        going[selected] = True
        for block in range(1, len(self.ends)):
            members = order[going[order]]
            before, now = self.chances[members, block - 1], self.chances[members, block]
            if (now == before).all():
                continue
            if uniforms is not None:
                continues = uniforms[members] < now
            else:
                ascending = np.arange(len(members))
                continues = allocation.systematic(now / before, ascending, rng.random())
            stopped = members[~continues]
            limits[stopped] = self.ends[block - 1]
            going[stopped] = False
        return limits[selected]


def block_ends(longest: int) -> IntArray:
    """Ends of blocks that reach up to draw `longest`: 1, 2, ..., then farther and farther apart.

    >>> block_ends(5).tolist(), block_ends(100)[-5:].tolist()
    ([1, 2, 3, 4, 5], [42, 55, 72, 94, 100])
    """
    ends = list(range(1, min(longest, _SINGLE) + 1)) or [1]
    while ends[-1] < longest:
        ends.append(min(int(np.ceil(ends[-1] * _GROWTH)), longest))
    return np.array(ends, dtype=np.int64)


def cost_and_size(
    planning: PredictedTimes, horizon: FloatArray, ends: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Expected draws C in each block, and sqrt(g); shapes (n, m), up to `horizon`, shape (n,)."""
    n, m = len(planning), len(ends)
    events, draws = np.zeros((n, m + 1)), np.zeros((n, m + 1))
    for block, end in enumerate(ends, start=1):
        reached = np.minimum(horizon, end)
        events[:, block] = planning.level(reached)
        draws[:, block] = expected_draws(planning, reached)
    first = planning.level(np.ones(n))  # the hazard of the first draw, where nothing is planned
    rates = _falling_slopes(events, draws)
    rates[horizon < 1] = first[horizon < 1, None]
    return np.maximum(np.diff(draws, axis=1), 0.0), np.sqrt(rates)


def chances_of(rule: allocation.Scaling, cost: FloatArray, size: FloatArray) -> FloatArray:
    """R from the rule: what holds at the horizon holds beyond it."""
    pi = rule(cost.ravel(), size.ravel()).reshape(cost.shape)
    return np.minimum.accumulate(pi, axis=1)


def _falling_slopes(events: FloatArray, draws: FloatArray) -> FloatArray:
    """Slopes of the least concave majorants of (draws, events), shape (n, m + 1), at each block.

    g_b = min_{a <= b} max_{c >= b} (events_c - events_a) / (draws_c - draws_a). Blocks without
    draws have the slope of the one before.
    """
    n, m = events.shape[0], events.shape[1] - 1
    found = np.full((n, m), np.inf)
    for start in range(m):
        rise = events[:, start + 1 :] - events[:, start, None]
        run = draws[:, start + 1 :] - draws[:, start, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(run > 0, rise / run, -np.inf)
        # the best end at or after each block
        best = np.maximum.accumulate(slope[:, ::-1], axis=1)[:, ::-1]
        found[:, start:] = np.minimum(found[:, start:], np.where(np.isinf(best), np.inf, best))
    found = np.where(np.isfinite(found), found, np.inf)
    return np.asarray(np.maximum(np.minimum.accumulate(found, axis=1), 0.0), dtype=np.float64)
