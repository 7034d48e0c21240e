"""Confidence intervals that hold in finite samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError


def clopper_pearson(
    events: ArrayLike, draws: ArrayLike, *, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact two-sided interval for a probability from `events` in `draws` independent draws.

    Shapes broadcast; returns (lower, upper). The lower end is 0 without events, the upper end 1
    where every draw is one; no draws give [0, 1]. Source: Clopper and Pearson (1934).

    >>> lower, upper = clopper_pearson(0, 500, confidence=0.9)
    >>> float(lower), round(float(upper), 4)
    (0.0, 0.006)
    """
    from scipy.special import betaincinv

    k, n = np.broadcast_arrays(
        np.asarray(events, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    )
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if ((k < 0) | (k > n)).any():
        raise UsageError("events must lie between 0 and draws")
    tail = (1 - confidence) / 2
    # The ends solve P(at least k) = tail and P(at most k) = tail; betaincinv wants a, b > 0.
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    upper = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return lower, upper
