r"""Geometric arithmetic that stays right from p = 1e-300 to p = 1 and never overflows.

The time to the first unsafe draw of a prompt with risk p is T ~ Geometric(p) on 1, 2, ...:

    P(T <= t) = 1 - (1 - p)^t = -expm1(-t r),    r = -log1p(-p).

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

#: Stands for the infinite rate of p = 1: finite, so that 0 draws give level 0 and not NaN.
_CERTAIN = 1e300

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def rate(p: ArrayLike) -> FloatArray:
    """r = -log(1 - p), so that P(T > t) = exp(-t r), for `p` in (0, 1]; r is at most 1e300."""
    with np.errstate(divide="ignore"):
        value = -np.log1p(-np.asarray(p, dtype=np.float64))
    return np.asarray(np.minimum(value, _CERTAIN), dtype=np.float64)


def level(p: ArrayLike, time: ArrayLike) -> FloatArray:
    """P(T <= time) for risk `p` in (0, 1] and `time` >= 0; shapes broadcast.

    >>> level(0.1, [0, 1, 2]).round(12).tolist()
    [0.0, 0.1, 0.19]
    """
    return level_at_rate(rate(p), np.asarray(time, dtype=np.float64))


def quantile(p: ArrayLike, tau: ArrayLike) -> IntArray:
    """Smallest t >= 1 with P(T <= t) >= `tau`; saturates at `MAX_TIME`; shapes broadcast.

    `p` lies in (0, 1], `tau` in [0, 1).

    >>> quantile(0.1, [0.0, 0.1, 0.5]).tolist()
    [1, 1, 7]
    """
    time = quantile_at_rate(rate(p), np.asarray(tau, dtype=np.float64))
    return np.asarray(time, dtype=np.int64)


def level_at_rate(r: FloatArray, time: FloatArray) -> FloatArray:
    """`level` from r = `rate(p)`, for whoever needs it at many times."""
    with np.errstate(over="ignore"):
        return np.asarray(-np.expm1(-r * time), dtype=np.float64)


def quantile_at_rate(r: FloatArray, tau: ArrayLike) -> FloatArray:
    """`quantile` from r = `rate(p)`, as whole floats: exact, since they are at most `MAX_TIME`."""
    tau = np.asarray(tau, dtype=np.float64)
    target = -np.log1p(-tau)
    with np.errstate(over="ignore"):
        close = np.minimum(target / r, float(MAX_TIME))
    time = np.maximum(np.ceil(close), 1.0)
    # Rounding moves the closed form by a few units in the last place, and `level` by as much in
    # tau, which is `stretch` times as much in time. Only where an integer lies within that reach
    # can the ceiling be wrong; there `level` decides.
    with np.errstate(divide="ignore", invalid="ignore"):
        stretch = np.where(tau > 0, tau / ((1.0 - tau) * target), 1.0)
    margin = 1e-15 * (4.0 + 2.0 * stretch)
    ambiguous = np.abs(close - np.rint(close)) < margin * close
    if ambiguous.any():
        r, tau = np.broadcast_to(r, ambiguous.shape), np.broadcast_to(tau, ambiguous.shape)
        time = np.array(time, ndmin=0)
        time[ambiguous] = _search(r[ambiguous], tau[ambiguous], time[ambiguous])
    return np.asarray(time, dtype=np.float64)


def _search(r: FloatArray, tau: FloatArray, guess: FloatArray) -> FloatArray:
    """Smallest time with level >= tau, by bisection around a close guess, shape (n,)."""
    reach = np.ones_like(guess)
    while True:
        low, high = np.maximum(guess - reach, 0.0), np.minimum(guess + reach, float(MAX_TIME))
        open_below = (low > 0) & (level_at_rate(r, low) >= tau)
        open_above = (high < MAX_TIME) & (level_at_rate(r, high) < tau)
        if not (open_below | open_above).any():
            break
        reach = np.where(open_below | open_above, reach * 4, reach)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = level_at_rate(r, middle) >= tau
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.maximum(high, 1.0)


def expected_draws(p: ArrayLike, horizon: ArrayLike) -> FloatArray:
    """E[min(T, horizon)] = P(T <= horizon) / p for risk `p` in (0, 1]; shapes broadcast.

    >>> expected_draws(0.1, [1, 10]).round(3).tolist()
    [1.0, 6.513]
    """
    return np.asarray(level(p, horizon) / np.asarray(p, dtype=np.float64), dtype=np.float64)
