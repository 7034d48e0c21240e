r"""From weighted events to the calibrated level.

A followed prompt with T < M and its first event at T is miscovered at level tau exactly if
u = level(p_hat, T) < tau. With weights w = 1 / pi,

    miscoverage(tau) = (1 / N) sum_i w_i 1{u_i < tau}

is a weighted empirical distribution function: sorted once, it is known at every tau. A `Rule` says
how many events, in order of u, a guarantee admits. Since the event at u itself is not counted at
tau = u, the admitted levels end at the u of the first event that is not admitted: `marginal` and
`pac` end there. `plug-in` ends one event earlier, with the crossing event counted: with equal
weights its coverage is then 1 - k / (N + 1), at least 1 - alpha on average and not just below it.
Beyond the last event alpha limits nothing.

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
    """Which numbers of events a guarantee admits.

    `to_the_next_event`: the level is the u of the first event that is not admitted, instead of the
    last one that is.
    """

    to_the_next_event: bool

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """For events with `weights` in order of u, shape (m,): may the first k + 1 be counted?

        Once False, False for every later one.
        """
        ...

    def surely_admits(self, weights: FloatArray) -> bool:
        """A quick test: if True, `admits` would be True for all, in whatever order."""
        ...

    def used(self, weights: FloatArray) -> float:
        """About what share of what is admitted events with `weights` use up; a guess will do."""
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
    """sum of weights <= allowance: the rules `plug-in` and `marginal`.

    `plug-in`: allowance = alpha N. `marginal` (conformal risk control, Angelopoulos et al. 2024):
    N / (N + 1) miscoverage + w_bound / (N + 1) <= alpha, so allowance = alpha (N + 1) - w_bound.
    With an allowance below `least` no level qualifies: that of `plug-in` must admit an event of the
    smallest weight, 1, for else it would say nothing until one is seen.
    """

    def __init__(
        self,
        allowance: float,
        *,
        prompts_needed: int,
        to_the_next_event: bool = False,
        least: float = 0.0,
    ) -> None:
        # Equal weights with alpha N whole must count as equal whatever the order of summation.
        self._allowance = allowance + 1e-9 * max(1.0, abs(allowance))
        self.prompts_needed = prompts_needed
        self.to_the_next_event = to_the_next_event
        self.feasible = self._allowance >= least

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """See `Rule`."""
        return np.asarray(np.cumsum(weights) <= self._allowance, dtype=np.bool_)

    def surely_admits(self, weights: FloatArray) -> bool:
        """See `Rule`: the sum, with room for its rounding error."""
        return float(weights.sum()) <= 0.999 * self._allowance

    def used(self, weights: FloatArray) -> float:
        """See `Rule`."""
        return float(weights.sum()) / self._allowance


class Binomial:
    r"""At most k events in m followed prompts: the rule `pac` where all weights are equal.

    The m followed prompts are a random sample of the population, so that at a level whose
    miscoverage exceeds alpha the number of events is Binomial with a greater probability than
    alpha, and not more than k, the largest with P(Binomial(m, alpha) <= k) <= delta, with
    probability at most delta. The number of events grows with tau: testing from below needs no
    correction. This is the classical distribution-free tolerance bound (Wilks 1941; Vovk 2012,
    training-conditional validity). The level is the u of event k + 1: it exceeds the level at which
    the miscoverage is alpha only where k or fewer events lie below that one.
    """

    to_the_next_event = True

    def __init__(self, *, n: int, followed: int, alpha: float, delta: float) -> None:
        self.allowed = binomial_allowance(followed, alpha, delta)
        self.feasible = self.allowed >= 0
        least = least_followed(alpha, delta)
        self.prompts_needed = max(1, math.ceil(least * n / followed * (1 - 1e-12)))

    def admits(self, weights: FloatArray) -> NDArray[np.bool_]:
        """See `Rule`."""
        return np.arange(1, len(weights) + 1) <= self.allowed

    def surely_admits(self, weights: FloatArray) -> bool:
        """See `Rule`."""
        return len(weights) <= self.allowed

    def used(self, weights: FloatArray) -> float:
        """See `Rule`."""
        return len(weights) / (self.allowed + 1)


def least_prompts(alpha: float) -> int:
    """Calibration prompts from which on `plug-in` admits an event: alpha N >= 1.

    >>> least_prompts(0.1), least_prompts(0.03)
    (10, 34)
    """
    return math.ceil((1 - 1e-9) / alpha)


def binomial_allowance(draws: int, alpha: float, delta: float) -> int:
    """The largest k with P(Binomial(draws, alpha) <= k) <= delta; -1 if there is none."""
    from scipy.special import bdtr

    low, high = -1, draws  # P(<= low) <= delta < P(<= high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bdtr(middle, draws, alpha) <= delta else (low, middle)
    return low


def least_followed(alpha: float, delta: float) -> int:
    """How many prompts must be followed for `Binomial` to state a level: (1 - alpha)^m <= delta.

    >>> least_followed(0.1, 0.1)
    22
    """
    return _first_true(lambda m: binomial_allowance(m, alpha, delta) >= 0)


class Betting:
    r"""K >= 1 / delta, where K bets against "the miscoverage exceeds alpha": `pac`, any weights.

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
    to_the_next_event = True

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
        return len(weights) == 0 and self.feasible

    def used(self, weights: FloatArray) -> float:
        """See `Rule`."""
        return float(weights.sum()) / (self._alpha * self._n)

    def _wealth(self) -> float:
        """log K when no prompt brings an event."""
        logs = self._n * np.log1p(self._bets * self._alpha)
        return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))


def calibrated_level(
    levels: FloatArray, weights: FloatArray, rule: Rule, *, max_level: float
) -> tuple[float, bool]:
    """Chooses tau_hat, the calibrated level; with it, whether alpha is what limits it.

    `levels` (u) and `weights` of the events have shape (m,); events with u >= max_level play no
    part. A tau_hat of 0 means that no level qualifies.

    >>> rule = WeightedSum(2.0, prompts_needed=1)
    >>> calibrated_level(np.array([0.3, 0.1, 0.2, 0.4]), np.ones(4), rule, max_level=0.95)
    (0.2, True)
    """
    if not rule.feasible:
        return 0.0, True
    within = levels < max_level
    u, w = levels[within], weights[within]
    if rule.surely_admits(w):
        return max_level, False
    order = np.argsort(u, kind="stable")
    u, w = u[order], w[order]
    admitted = rule.admits(w)
    if admitted.all():
        return max_level, False
    if rule.to_the_next_event:
        return float(u[np.argmin(admitted)]), True
    # Events at the same level count together.
    last_of_ties = np.append(u[1:] != u[:-1], True)
    good = np.flatnonzero(admitted & last_of_ties)
    return (float(u[good[-1]]), True) if good.size else (0.0, True)


def passes(levels: FloatArray, weights: FloatArray, rule: Rule, *, known_to: float) -> bool:
    """Whether the events with u < `known_to` already settle the level."""
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
