r"""How a budget of draws is divided among prompts: selection probabilities, solved exactly.

Both problems have one multiplier, and a cost that is piecewise linear in it. Sorting the prompts
finds it in O(n log n); there is no tolerance and no iteration.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """The rule pi = min(1, max(floor, scale size)); prompts that cost nothing get 1."""

    scale: float
    floor: float

    def __call__(self, cost: FloatArray, size: FloatArray) -> FloatArray:
        """Selection probabilities for prompts with `cost` and `size`, shape (n,)."""
        if np.isinf(self.scale):
            return np.ones_like(size)
        pi = self.scale * size
        np.clip(pi, self.floor, 1.0, out=pi)
        pi[cost <= 0] = 1.0
        return pi


def proportional(budget: float, cost: FloatArray, size: FloatArray, *, floor: float) -> Scaling:
    r"""The largest s with sum cost_i pi_i <= budget, where pi_i = min(1, max(floor, s size_i)).

    `cost` >= 0 and `size` >= 0 have shape (n,). Where even the floor costs more than the budget,
    s = 0 and every pi is the floor: the floor bounds the weights and goes first. Where everything
    is affordable, s is infinite and every pi is 1.
    """
    if cost.sum() <= budget:
        return Scaling(np.inf, floor)
    order = np.argsort(size)
    a, c = size[order], cost[order]
    total = _prefix_sums(c)
    c *= a
    weighted = _prefix_sums(c)

    def spent(s: float) -> float:
        if s <= 0:
            return float(floor * total[-1])
        at_floor = int(np.searchsorted(a, floor / s, side="right"))
        below_one = max(at_floor, int(np.searchsorted(a, 1.0 / s, side="left")))
        between = s * (weighted[below_one] - weighted[at_floor])
        return float(floor * total[at_floor] + between + total[-1] - total[below_one])

    def cost_where_reached(top: float, size: float) -> float:
        return spent(top / size)

    if spent(0.0) > budget:
        return Scaling(0.0, floor)
    # The cost is linear between neighbouring breakpoints 0, floor / a, 1 / a: interpolate between
    # the last one that is affordable and the first one that is not.
    low, high = 0.0, np.inf
    descending = a[: np.searchsorted(a, 0.0, side="right") - 1 if a[0] <= 0 else None : -1]
    for top in (floor, 1.0) if floor > 0 else (1.0,):
        first = bisect_right(descending, budget, key=partial(cost_where_reached, top))
        if first > 0:
            low = max(low, float(top / descending[first - 1]))
        if first < len(descending):
            high = min(high, float(top / descending[first]))
    if not high > low or np.isinf(high):
        return Scaling(low, floor)
    gained = spent(high) - spent(low)
    share = (budget - spent(low)) / gained if gained > 0 else 0.0
    return Scaling(low + share * (high - low), floor)


def least_variance(budget: float, horizon: FloatArray) -> Scaling:
    r"""Minimise sum 1 / pi_i subject to sum horizon_i pi_i <= budget and 0 < pi_i <= 1.

    By the Karush-Kuhn-Tucker conditions pi_i = min(1, 1 / sqrt(lambda horizon_i)), so this is
    `proportional` with size `inverse_root(horizon)` and no floor (the `optimized` design of
    Davidov et al., arXiv 2506.13593). `horizon` >= 0 has shape (n,); horizons of 0 cost nothing.
    """
    return proportional(budget, horizon, inverse_root(horizon), floor=0.0)


def inverse_root(horizon: FloatArray) -> FloatArray:
    """horizon^(-1/2), and 1 for horizons of 0."""
    return np.asarray(1.0 / np.sqrt(np.maximum(horizon, 1.0)), dtype=np.float64)


def systematic(pi: FloatArray, order: NDArray[np.intp], start: float) -> NDArray[np.bool_]:
    """Systematic selection with inclusion probabilities exactly `pi`, shape (n,).

    The probabilities are laid end to end in `order`; whoever covers `start`, start + 1, ... is
    selected. For a uniform `start` in [0, 1) prompt i is selected with probability pi_i, and any
    stretch of neighbours holds its expected number of selected prompts to within one.
    """
    laid = pi[order]
    certain = laid >= 1.0
    marks = np.cumsum(laid, out=laid)
    marks -= start
    np.floor(marks, out=marks)
    hit = np.empty(len(pi), dtype=np.bool_)
    hit[:1] = marks[:1] > np.floor(-start)
    np.greater(marks[1:], marks[:-1], out=hit[1:])
    hit |= certain
    chosen = np.empty_like(hit)
    chosen[order] = hit
    return chosen


def _prefix_sums(values: FloatArray) -> FloatArray:
    sums = np.empty(len(values) + 1)
    sums[0] = 0.0
    np.cumsum(values, out=sums[1:])
    return sums
