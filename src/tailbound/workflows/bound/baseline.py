r"""What the bound would be without a predictor: one L for all prompts.

A predictor that gives every prompt the same p_hat has nothing to learn, so the training prompts,
with their fixed numbers of draws, can calibrate it. With k unsafe among n draws of a prompt,

    P(T < t) = 1 - E[C(n - k, t - 1) / C(n, t - 1)],    t - 1 <= n,

which averages the first unsafe draw over all orders of the draws. The constant bound is the largest
t up to which the mean over the prompts stays within alpha.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantBound:
    """One L for all prompts; with `or_more`, the draws were too few to see where it ends."""

    bound: int
    or_more: bool


def constant_bound(
    unsafe: ArrayLike, draws: ArrayLike, *, alpha: float, units: Sequence[str] | None = None
) -> ConstantBound:
    """The largest L with mean P(T < L) <= alpha, from `unsafe` of `draws` draws, shape (prompts,).

    Missing verdicts are to be counted as unsafe. Wordings of one of `units` share one weight.

    >>> constant_bound([1, 0, 0, 0], [10, 10, 10, 10], alpha=0.1)
    ConstantBound(bound=5, or_more=False)
    """
    n = np.asarray(draws, dtype=np.float64)
    safe = n - np.asarray(unsafe, dtype=np.float64)
    names = [str(i) for i in range(n.size)] if units is None else list(units)
    sizes = Counter(names)
    weights = np.array([1 / sizes[name] for name in names])
    weights /= weights.sum()
    survived = np.ones_like(n)
    last = int(n.min())
    for t in range(1, last + 1):
        # P(T < t + 1): draws 1 .. t are all safe.
        survived *= np.maximum(safe - (t - 1), 0) / (n - (t - 1))
        if 1 - float(weights @ survived) > alpha + 1e-12:
            return ConstantBound(bound=t, or_more=False)
    return ConstantBound(bound=last + 1, or_more=True)
