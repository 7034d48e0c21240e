r"""Recalibration of predicted risks against counts of prompts that they were not fitted to.

A predictor ranks prompts better than it knows how risky they are: with few draws a prompt it
shrinks the safest towards the others. Counts of unsafe draws say how far. Isotonic regression of
them on p_hat, with every draw a weight, pools neighbours until their rates rise; between the
centres of the pools the log-odds are interpolated.

*Strictly increasing.* Pools would tie prompts, and what tells them apart beyond the counts would be
lost. Interpolation between centres keeps the order, and the outermost pools continue with the slope
of the logistic regression of the counts on the log-odds of p_hat, which every draw has a say in:
the safest pool has seen half an event or so, and nothing else says how safe the safest are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival.bound import check_probabilities

FloatArray = NDArray[np.float64]

#: Slopes beyond the outermost pools lie between these.
_LEAST_SLOPE, _GREATEST_SLOPE = 0.1, 2.0

#: Log-odds stay within these: probabilities of 1e-300 and 1 - 1e-12.
_LEAST_LOG_ODDS, _GREATEST_LOG_ODDS = -690.0, 27.6


@dataclass(frozen=True, eq=False)
class RecalibratedHazard:
    """A strictly increasing map of p_hat: log-odds, linear between points.

    `log_odds` of p_hat and `recalibrated` log-odds, both increasing, have shape (points,); beyond
    the first and the last point the map continues with `slope`.
    """

    log_odds: FloatArray
    recalibrated: FloatArray
    slope: float

    @classmethod
    def identity(cls) -> RecalibratedHazard:
        """The map that leaves p_hat as it is."""
        return cls(np.zeros(1), np.zeros(1), 1.0)

    def __call__(self, p_hat: FloatArray) -> FloatArray:
        """Recalibrated probabilities in (0, 1), the shape of `p_hat`."""
        x = _log_odds(p_hat)
        inside = np.interp(x, self.log_odds, self.recalibrated)
        below = np.minimum(x - self.log_odds[0], 0.0)
        above = np.maximum(x - self.log_odds[-1], 0.0)
        value = np.clip(inside + self.slope * (below + above), _LEAST_LOG_ODDS, _GREATEST_LOG_ODDS)
        return np.asarray(1.0 / (1.0 + np.exp(-value)), dtype=np.float64)


def recalibrate_hazard(p_hat: ArrayLike, unsafe: ArrayLike, draws: ArrayLike) -> RecalibratedHazard:
    """Recalibrate predictions against the counts of prompts that they were not fitted to.

    `p_hat` are out-of-fold predictions in (0, 1], `unsafe` events in `draws` draws, all of shape
    (n,). The result maps p_hat of any prompts; as a function of the training prompts alone it may
    be applied to calibration and test prompts, and every guarantee stays.

    Raises `UsageError` where shapes differ or no prompt has a draw.

    >>> hazard = recalibrate_hazard([1e-3] * 20 + [1e-2] * 20, [0] * 15 + [1] * 25, 50)
    >>> hazard(np.array([1e-3, 1e-2])).round(4).tolist()
    [0.005, 0.02]
    """
    from scipy.optimize import isotonic_regression

    p = check_probabilities(p_hat, "p_hat")
    k = np.asarray(unsafe, dtype=np.float64)
    n = np.broadcast_to(np.asarray(draws, dtype=np.float64), p.shape)
    if p.size == 0 or k.shape != p.shape:
        raise UsageError(f"unsafe has shape {k.shape}, p_hat {p.shape}: they must be the same")
    drawn = n > 0
    if not drawn.any():
        raise UsageError("no prompt has a draw: there is nothing to recalibrate against")
    x, same = np.unique(_log_odds(p[drawn]), return_inverse=True)
    events: FloatArray = np.bincount(same, weights=k[drawn], minlength=len(x)).astype(np.float64)
    weight: FloatArray = np.bincount(same, weights=n[drawn], minlength=len(x)).astype(np.float64)
    slope, rate = _slope(x, events, weight), events / weight
    for _ in range(2):  # half an event for a pool without one may bring it out of order again
        starts = isotonic_regression(rate, weights=weight).blocks[:-1]
        total = np.add.reduceat(weight, starts)
        rate = np.add.reduceat(rate * weight, starts) / total
        x = np.add.reduceat(x * weight, starts) / total
        weight = total
        half = 0.5 / (weight + 1.0)
        rate = np.clip(rate, half, 1.0 - half)
    return RecalibratedHazard(x, _log_odds(rate), slope)


def _slope(x: FloatArray, events: FloatArray, draws: FloatArray) -> float:
    """The slope of the logistic regression of the counts on `x`, within reason.

    1 where nothing speaks against it: half an event of a regression with slope 1 is added.
    """
    if len(x) < 2:
        return 1.0
    from scipy.special import expit

    intercept = _log_odds(np.array([(events.sum() + 0.5) / (draws.sum() + 1.0)]))[0]
    extra = 1.0 / len(x)
    centre = float(np.average(x, weights=draws))
    start = expit(intercept + (x - centre))
    k, n = events + extra * start, draws + extra
    design = np.stack([np.ones_like(x), x - centre])
    theta = np.array([intercept, 1.0])
    for _ in range(50):
        p = expit(theta @ design)
        gradient = design @ (k - n * p)
        information = (design * (n * p * (1 - p))) @ design.T
        step = np.linalg.solve(information + 1e-12 * np.eye(2), gradient)
        theta = theta + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-6:
            break
    return float(np.clip(theta[1], _LEAST_SLOPE, _GREATEST_SLOPE))


def _log_odds(p: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        value = np.log(p) - np.log1p(-np.asarray(p, dtype=np.float64))
    return np.asarray(np.clip(value, _LEAST_LOG_ODDS, _GREATEST_LOG_ODDS), dtype=np.float64)
