r"""From weighted events to the calibrated level.

A followed prompt with T < M and its first event at T is miscovered at level tau exactly if
u = level(p_hat, T) < tau. With weights w = 1 / pi,

    miscoverage(tau) = (1 / N) sum_i w_i 1{u_i < tau}

is a weighted empirical distribution function: sorted once, it is known at every tau. A `Rule` says
up to which event a guarantee holds. The level is the u of the last event that may be counted, the
crossing one included; levels beyond the last event are not limited by alpha.

One cumulative sum serves both the stopping test of the lazy horizon and the final search, so that
the two can never disagree by a rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Rule(Protocol):
    """Which numbers of events a guarantee admits."""

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """For events with `weights` in order of u, shape (m,): may the first k + 1 be counted?

        Once False, False for every later one.
        """
        ...

    def surely_admits(self, weights: FloatArray) -> bool:
        """Whether all events may be counted, by a wide margin; needs no order. May be False."""
        ...

    @property
    def prompts_needed(self) -> int:
        """Calibration prompts from which on a level can qualify when no event is seen."""
        ...

    @property
    def feasible(self) -> bool:
        """Whether any level qualifies when no event is seen."""
        ...


class WeightedSum:
    """sum of weights <= allowance: the rules `marginal` and `expected`.

    `marginal`: allowance = alpha N. `expected` (conformal risk control, Angelopoulos et al. 2024):
    N / (N + 1) miscoverage + w_bound / (N + 1) <= alpha, so allowance = alpha (N + 1) - w_bound.
    """

    def __init__(self, allowance: float, *, prompts_needed: int) -> None:
        # Equal weights with alpha N whole must count as equal whatever the order of summation.
        self._allowance = allowance + 1e-9 * max(1.0, abs(allowance))
        self.prompts_needed = prompts_needed
        self.feasible = allowance >= 0

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """See `Rule`."""
        return np.asarray(np.cumsum(weights) <= self._allowance, dtype=np.bool_)

    def surely_admits(self, weights: FloatArray) -> bool:
        """See `Rule`."""
        return bool(weights.sum() < self._allowance * (1 - 1e-6))


class Betting:
    r"""K >= 1 / delta, where K bets against "the miscoverage exceeds alpha": the rule `pac`.

    With Z_i = w_i 1{u_i < tau} in [0, w_bound] and fixed lambda_j in [0, 1 / (w_bound - alpha)),

        K(tau) = mean_j prod_i (1 + lambda_j (alpha - Z_i(tau))).

    Where mean E[Z_i] >= alpha, E[K] <= 1 for independent Z_i, identical or not (AM-GM over the
    factors), so K >= 1 / delta has probability at most delta (Markov). K falls as tau grows: the
    levels that qualify form an interval, and no correction for searching it is needed. (Betting
    as in Waudby-Smith and Ramdas, 2024.)

    A bet of sqrt(2 log(1 / delta) / (n V)) is best where Z has variance V about alpha; V is alpha
    times the mean weight of events, somewhere between alpha and alpha w_bound, which a few bets
    cover. Fewer bets share the wealth among fewer.
    """

    BETS = 4

    def __init__(self, *, n: int, alpha: float, delta: float, weight_bound: float) -> None:
        weights = np.geomspace(1.0, max(weight_bound, 1.0 + 1e-9), self.BETS)
        best = np.sqrt(2 * math.log(1 / delta) / (n * alpha * weights))
        self._bets = np.minimum(best, 0.98 / (max(weight_bound, 1.0) - alpha))
        self._delta, self._weight_bound = delta, weight_bound
        self._alpha, self._n = alpha, n
        self._needed = -math.log(delta)
        self.feasible = self._wealth() >= self._needed

    @property
    def prompts_needed(self) -> int:
        """See `Rule`."""

        def feasible(prompts: int) -> bool:
            return Betting(
                n=prompts, alpha=self._alpha, delta=self._delta, weight_bound=self._weight_bound
            ).feasible

        return _first_true(feasible)

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """See `Rule`."""
        gains = np.log1p(self._bets * self._alpha)
        wealth = np.full((len(weights), self.BETS), 0.0)
        for j, (bet, gain) in enumerate(zip(self._bets, gains, strict=True)):
            losses = np.log1p(bet * (self._alpha - weights)) - gain
            wealth[:, j] = self._n * gain + np.cumsum(losses)
        top = wealth.max(axis=1)
        log_mean = top + np.log(np.exp(wealth - top[:, None]).mean(axis=1))
        return np.asarray(log_mean >= self._needed, dtype=np.bool_)

    def surely_admits(self, weights: FloatArray) -> bool:
        """See `Rule`."""
        return False

    def _wealth(self) -> float:
        """log K when no prompt brings an event."""
        logs = self._n * np.log1p(self._bets * self._alpha)
        return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))


def calibrated_level(
    levels: FloatArray, weights: FloatArray, rule: Rule, *, max_level: float
) -> tuple[float, bool]:
    """The calibrated level, and whether alpha is what limits it.

    `levels` (u) and `weights` of the events have shape (m,); events with u >= max_level play no
    part. Level 0 means that none qualifies.
    """
    if not rule.feasible:
        return 0.0, True
    within = levels < max_level
    order = np.argsort(levels[within], kind="stable")
    u, w = levels[within][order], weights[within][order]
    if u.size == 0:
        return max_level, False
    admitted = rule.admits(w)
    if admitted[-1]:
        return max_level, False
    # Events at the same level count together.
    last_of_ties = np.append(u[1:] != u[:-1], True)
    good = np.flatnonzero(admitted & last_of_ties)
    return (float(u[good[-1]]), True) if good.size else (0.0, True)


def passes(levels: FloatArray, weights: FloatArray, rule: Rule, *, known_to: float) -> bool:
    """Whether the events with u < `known_to` already settle the level."""
    if rule.feasible and rule.surely_admits(weights):
        return False
    return calibrated_level(levels, weights, rule, max_level=known_to)[1]


def _first_true(holds: Callable[[int], bool]) -> int:
    """Smallest n >= 1 with holds(n), for a condition that stays true once it is."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
