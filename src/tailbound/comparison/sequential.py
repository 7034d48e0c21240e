"""e-values of one prompt in two runs, valid at every time of looking."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError

_BLOCK = 2**20
"""Most numbers in one temporary array."""
RATIOS = (2.0, 4.0, 8.0)
"""Ratios of the two probabilities that are bet on, in both directions, with equal stakes."""


def paired_e_values(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    r"""e-values against "A and B are unsafe equally often", from draws in pairs, draw by draw.

    `a` and `b` have shape (m, n): 0 and 1, draw j of A beside draw j of B, NaN where a verdict is
    missing, -1 where there is no draw. For a ratio rho and the pooled probability g of earlier
    draws, u = g + s and v = g - s with s = min(g, 1 - g) (rho - 1) / (rho + 1), each pair
    multiplies the stake by

        u^a (1 - u)^(1 - a) v^b (1 - v)^(1 - b) / (g^(a + b) (1 - g)^(2 - a - b)).

    Under equal probabilities its expectation is at most 1 whatever they are: the factors of a and
    of b sum to 2 in expectation, and a product is largest where they are equal. The result is the
    mean over the ratios and both directions, shape (m,): an e-process, so that 1 / e is a p-value
    that stays valid however often one looks, and whenever one stops. A missing verdict counts
    against each direction (A is bet to be worse: A's missing are safe, B's unsafe), which keeps the
    expectation at most 1. Pairs without a draw on either side multiply by 1. The draws of a pair
    must be independent, or positively dependent, as those with common random numbers are where both
    models turn unsafe on the same numbers: that is conservative. Negatively dependent draws break
    it.

    Raises `UsageError` for other values, or shapes that differ.

    Source: Turner, Ly and Grunwald (2024), "Generic E-variables for exact sequential k-sample tests
    that allow for optional stopping", for blocks of one draw each; the bets are ours.

    >>> same = paired_e_values(np.zeros((1, 500)), np.zeros((1, 500)))
    >>> float(same[0]) <= 1
    True
    >>> worse = np.tile([0.0, 0.0, 0.0, 0.0, 1.0], 40)[None]
    >>> bool(paired_e_values(np.zeros((1, 200)), worse)[0] > 1_000)
    True
    """
    first, second = (np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (a, b))
    if first.shape != second.shape or first.ndim != 2:
        raise UsageError("the draws of A and B must come in pairs: the same shape (m, n) for both")
    for one in (first, second):
        if not (np.isnan(one) | np.isin(one, (-1.0, 0.0, 1.0))).all():
            raise UsageError("draws must be 0 or 1, NaN (missing verdict) or -1 (no draw)")
    step = max(1, _BLOCK // max(1, first.shape[1]))
    starts = range(0, len(first), step)
    parts = [_e_values(first[i : i + step], second[i : i + step]) for i in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def _e_values(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for checked draws of a few prompts."""
    paired = (first != -1) & (second != -1)
    logs = []
    for risky, other in ((first, second), (second, first)):
        x = np.where(np.isnan(risky), 0.0, risky)
        y = np.where(np.isnan(other), 1.0, other)
        logs += [_log_capital(x, y, paired, rho) for rho in RATIOS]
    stacked = np.stack(logs)
    top = stacked.max(axis=0)
    return np.asarray(np.exp(top) * np.exp(stacked - top).mean(axis=0))


def _log_capital(
    x: NDArray[np.float64], y: NDArray[np.float64], paired: NDArray[np.bool_], rho: float
) -> NDArray[np.float64]:
    """The logarithm of the capital after all pairs, of the bet that x is `rho` times y."""
    x, y = np.where(paired, x, 0.0), np.where(paired, y, 0.0)
    events, pairs = np.cumsum(x + y, axis=1), np.cumsum(paired, axis=1)
    before = np.concatenate([np.zeros((len(x), 1)), events[:, :-1]], axis=1)
    earlier = np.concatenate([np.zeros((len(x), 1)), pairs[:, :-1]], axis=1)
    g = (before + 0.5) / (2 * earlier + 1)
    s = np.minimum(g, 1 - g) * (rho - 1) / (rho + 1)
    up, down = np.log1p(s / g), np.log1p(-s / g)
    not_up, not_down = np.log1p(-s / (1 - g)), np.log1p(s / (1 - g))
    each = x * up + (1 - x) * not_up + y * down + (1 - y) * not_down
    return np.asarray(np.where(paired, each, 0.0).sum(axis=1))
