r"""Geometric arithmetic that stays right from p = 1e-300 to p = 1 and never overflows.

The time to the first unsafe draw of a prompt with risk p is T ~ Geometric(p) on 1, 2, ...:

    P(T <= t) = 1 - (1 - p)^t = -expm1(t log1p(-p)).

`level` is that distribution function, `quantile` its generalised inverse, the smallest t with
`level(p, t) >= tau`. The two are exact inverses *in floating point*: for every p, t and tau,

    t < quantile(p, tau)  <=>  level(p, t) < tau,

because `quantile` corrects its closed form against `level` itself. Calibration relies on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Times saturate here: the largest integer that float64 holds with all its predecessors.
MAX_TIME = 2**53

_EPSILON = float(np.finfo(np.float64).eps)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def level(p: ArrayLike, time: ArrayLike) -> FloatArray:
    """P(T <= time) for risk `p` in (0, 1] and `time` >= 0; shapes broadcast."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = -np.expm1(np.asarray(time, dtype=np.float64) * np.log1p(-np.asarray(p, float)))
    # p = 1 at time 0 is -0 * inf
    return np.asarray(np.where(np.isnan(value), 0.0, value), dtype=np.float64)


def quantile(p: ArrayLike, tau: ArrayLike) -> IntArray:
    """Smallest t >= 1 with P(T <= t) >= `tau`; saturates at `MAX_TIME`; shapes broadcast.

    `p` lies in (0, 1], `tau` in [0, 1).

    >>> quantile(0.1, [0.0, 0.1, 0.5]).tolist()
    [1, 1, 7]
    """
    p, tau = np.asarray(p, dtype=np.float64), np.asarray(tau, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        exposure = -np.log1p(-tau)
        exact = exposure / -np.log1p(-p)
        # How far rounding can move the time at which `level` reaches tau, in draws.
        slack = 8 * _EPSILON * (1.0 + 1.0 / np.maximum(exposure * (1.0 - tau), 1e-300))
    time = np.minimum(np.maximum(np.ceil(exact), 1.0), float(MAX_TIME))
    # Away from whole numbers the closed form is safe; close to one `level` decides.
    close = np.abs(exact - np.rint(exact)) <= slack * np.maximum(exact, 1.0)
    if close.any():
        p, tau = np.broadcast_to(p, close.shape), np.broadcast_to(tau, close.shape)
        time = np.array(time)
        time[close] = _search(p[close], tau[close], time[close])
    return np.asarray(time, dtype=np.int64)


def _search(p: FloatArray, tau: FloatArray, guess: FloatArray) -> FloatArray:
    """Smallest time with level(p, time) >= tau, by bisection around a close guess, shape (n,)."""
    reach = np.ones_like(guess)
    while True:
        low, high = np.maximum(guess - reach, 0.0), np.minimum(guess + reach, float(MAX_TIME))
        open_below = (low > 0) & (level(p, low) >= tau)
        open_above = (high < MAX_TIME) & (level(p, high) < tau)
        if not (open_below | open_above).any():
            break
        reach = np.where(open_below | open_above, reach * 4, reach)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = level(p, middle) >= tau
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.maximum(high, 1.0)


def expected_draws(p: ArrayLike, horizon: ArrayLike) -> FloatArray:
    """E[min(T, horizon)] = P(T <= horizon) / p for risk `p` in (0, 1]; shapes broadcast."""
    return np.asarray(level(p, horizon) / np.asarray(p, dtype=np.float64), dtype=np.float64)
