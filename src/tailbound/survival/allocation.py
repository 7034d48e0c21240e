r"""How a budget of draws is divided among prompts: selection probabilities, solved exactly.

Both problems have one multiplier and a cost that is piecewise linear in it, so sorting the
breakpoints finds it in O(n log n); there is no tolerance and no iteration.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def proportional(budget: float, cost: FloatArray, size: FloatArray, *, floor: float) -> FloatArray:
    r"""pi_i = min(1, max(floor, s size_i)) with the largest s such that sum cost_i pi_i <= budget.

    `cost` >= 0 and `size` >= 0 have shape (n,). Prompts that cost nothing get 1. Where even the
    floor costs more than the budget, every pi is the floor: the floor bounds the weights and goes
    first. Where everything is affordable, every pi is 1.
    """
    pi = np.ones_like(cost)
    paid = np.flatnonzero(cost > 0)
    c, a = cost[paid], size[paid]
    if c.sum() <= budget:
        return pi
    # Each prompt costs c floor, then c a s between s = floor / a and s = 1 / a, then c.
    with np.errstate(divide="ignore"):
        breaks = np.concatenate([floor / a, 1.0 / a])
    slopes = np.concatenate([c * a, -c * a])
    finite = np.isfinite(breaks)
    breaks, slopes = breaks[finite], slopes[finite]
    order = np.argsort(breaks, kind="stable")
    breaks, slopes = breaks[order], np.cumsum(slopes[order])
    spent = floor * c.sum() + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(breaks))])
    k = int(np.searchsorted(spent, budget, side="right")) - 1
    if k < 0:
        scale = 0.0
    elif k == len(breaks) - 1 or slopes[k] <= 0:
        scale = float(breaks[k])
    else:
        scale = float(breaks[k] + (budget - spent[k]) / slopes[k])
    pi[paid] = np.clip(scale * a, floor, 1.0)
    return pi


def least_variance(budget: float, horizon: FloatArray) -> FloatArray:
    r"""Minimise sum 1 / pi_i subject to sum horizon_i pi_i <= budget and 0 < pi_i <= 1.

    By the Karush-Kuhn-Tucker conditions pi_i = min(1, 1 / sqrt(lambda horizon_i)), so this is
    `proportional` with size horizon^(-1/2) and no floor (the `optimized` design of Davidov et al.,
    arXiv 2506.13593). `horizon` >= 0 has shape (n,); horizons of 0 cost nothing and get 1.
    """
    with np.errstate(divide="ignore"):
        size = np.where(horizon > 0, 1.0 / np.sqrt(horizon), 1.0)
    return proportional(budget, horizon, size, floor=0.0)


def systematic(pi: FloatArray, order: NDArray[np.int64], start: float) -> NDArray[np.bool_]:
    """Systematic selection with inclusion probabilities exactly `pi`, shape (n,).

    The probabilities are laid end to end in `order`; whoever covers `start`, start + 1, ... is
    selected. For a uniform `start` in [0, 1) prompt i is selected with probability pi_i, and any
    stretch of neighbours holds its expected number of selected prompts to within one.
    """
    ends = np.cumsum(pi[order])
    marks = np.floor(ends - start)
    before = np.concatenate([[np.floor(-start)], marks[:-1]])
    chosen = np.empty(len(pi), dtype=np.bool_)
    chosen[order] = (marks > before) | (pi[order] >= 1.0)
    return chosen
