r"""Predicted distributions of the time to the first unsafe draw, in whatever form they come.

Calibration asks two things of a prediction: `level(t)`, the predicted P(T <= t), and its inverse
`quantile(tau)`, the smallest t >= 1 with level(t) >= tau. Independent draws of one prompt make T
geometric; hazards that change from step to step (turns of a conversation, a model that drifts)
need `Hazards`, and several predictions at once a `Mixture`. Every `PredictedTimes` must be an exact
inverse in floating point: for every unit, t and tau,

    t < quantile(tau)  <=>  level(t) < tau.

`smallest_time` makes the quantile of any non-decreasing `level` so.

For discrete hazards h_1 .. h_K and the tail hazard r after them,

    level(t) = 1 - prod_{s <= t} (1 - h_s) = -expm1(sum_{s <= t} log1p(-h_s)).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival.geometric import MAX_TIME, level_at_rate, quantile_at_rate, rate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Levels whose mean log quantile says how early events are expected, and nodes of a quadrature.
_ORDERING_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.5)
_NODES = 256


@runtime_checkable
class PredictedTimes(Protocol):
    """Predicted distributions of T for n units; arrays are in their order."""

    def __len__(self) -> int:
        """n."""
        ...

    def take(self, indices: NDArray[Any]) -> PredictedTimes:
        """The predictions of the named units, in that order."""
        ...

    def quantile(self, tau: ArrayLike) -> FloatArray:
        """Smallest t >= 1 with level(t) >= `tau`, at most `MAX_TIME`: whole floats, shape (n,).

        `tau` in [0, 1) is a number, or one for each unit.
        """
        ...

    def level(self, time: ArrayLike) -> FloatArray:
        """Predicted P(T <= `time`), shape (n,); `time` >= 0 is a number, or one for each unit."""
        ...


@runtime_checkable
class ExpectsDraws(Protocol):
    """Predictions that know E[min(T, horizon)]; others get it by quadrature, for planning."""

    def expected_draws(self, horizon: ArrayLike) -> FloatArray:
        """E[min(T, `horizon`)], shape (n,)."""
        ...


class Geometric:
    """T ~ Geometric(p): independent draws of the same risk.

    `p`, shape (n,), lies in (0, 1]; it is not checked here.

    >>> Geometric([0.1, 0.01]).quantile(0.5).tolist()
    [7.0, 69.0]
    """

    def __init__(self, p: ArrayLike, *, rates: FloatArray | None = None) -> None:
        self.p = np.asarray(p, dtype=np.float64)
        self._rates = rates

    def __len__(self) -> int:
        return len(self.p)

    @property
    def rates(self) -> FloatArray:
        """-log(1 - p), shape (n,)."""
        if self._rates is None:
            self._rates = rate(self.p)
        return self._rates

    @cached_property
    def ascending(self) -> NDArray[np.intp]:
        """The units in increasing order of p."""
        return np.argsort(self.p)

    def take(self, indices: NDArray[Any]) -> Geometric:
        """See `PredictedTimes`."""
        rates = None if self._rates is None else self._rates[indices]
        return Geometric(self.p[indices], rates=rates)

    def quantile(self, tau: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        return quantile_at_rate(self.rates, tau)

    def level(self, time: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        return level_at_rate(self.rates, np.asarray(time, dtype=np.float64))

    def expected_draws(self, horizon: ArrayLike) -> FloatArray:
        """See `ExpectsDraws`."""
        return np.asarray(self.level(horizon) / self.p, dtype=np.float64)


class Hazards:
    """Hazards by step: `hazards[i, t - 1]` is P(T = t | T >= t) of unit i; a constant one after K.

    `hazards`, shape (n, K) with K >= 1, lie in [0, 1], and so does `tail`, shape (n,) or a number:
    the hazard of every step after K (default: that of step K). Where it is 0, a unit that is safe
    for K steps is safe for ever. Raises `UsageError` for anything else.

    >>> falling = Hazards([[0.5, 0.2, 0.1]])
    >>> falling.level(3).round(6).tolist(), falling.quantile(0.6).tolist()
    ([0.64], [2.0])
    >>> falling.expected_draws(3).round(6).tolist()
    [1.9]
    """

    def __init__(self, hazards: ArrayLike, *, tail: ArrayLike | None = None) -> None:
        steps = _checked_hazards(hazards, "hazards", 2)
        if steps.shape[1] == 0:
            raise UsageError("hazards have no steps: give at least one column")
        after = steps[:, -1] if tail is None else np.asarray(tail, dtype=np.float64)
        after = np.broadcast_to(after, steps.shape[:1]) if after.ndim == 0 else after
        after = _checked_hazards(after, "tail", 1)
        if after.shape != steps.shape[:1]:
            raise UsageError(f"tail has shape {after.shape}, and there are {len(steps)} units")
        cumulative = np.cumsum(rate(steps), axis=1)
        self._fill(-np.expm1(-cumulative), cumulative[:, -1], after)

    def _fill(self, levels: FloatArray, cumulative: FloatArray, tail: FloatArray) -> None:
        self._levels, self._at_end, self.tail = levels, cumulative, tail
        self._tail_rates = rate(tail)

    def __len__(self) -> int:
        return len(self._levels)

    @property
    def steps(self) -> int:
        """K."""
        return int(self._levels.shape[1])

    @property
    def hazards(self) -> FloatArray:
        """P(T = t | T >= t) for t = 1 .. K, shape (n, K); 0 once nobody can be left."""
        before = np.column_stack([np.zeros(len(self)), self._levels[:, :-1]])
        with np.errstate(divide="ignore", invalid="ignore"):
            hazards = (self._levels - before) / (1.0 - before)
        return np.where(before < 1.0, hazards, 0.0)

    def take(self, indices: NDArray[Any]) -> Hazards:
        """See `PredictedTimes`."""
        part = object.__new__(Hazards)
        part._fill(self._levels[indices], self._at_end[indices], self.tail[indices])
        return part

    def level(self, time: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        t = np.broadcast_to(np.asarray(time, dtype=np.float64), (len(self),))
        column = np.clip(t, 1, self.steps).astype(np.int64) - 1
        found = self._levels[np.arange(len(self)), column]
        later = np.flatnonzero(t > self.steps)
        if later.size:
            found[later] = self._in_tail(later)(t[later])
        found[t < 1] = 0.0
        return found

    def _in_tail(self, units: NDArray[Any]) -> Callable[[FloatArray], FloatArray]:
        """Levels of the named `units` at times from K on."""
        last, rates = self._levels[units, -1], self._tail_rates[units]
        at_end = self._at_end[units]

        def level(time: FloatArray) -> FloatArray:
            with np.errstate(over="ignore"):
                reached = -np.expm1(-at_end - (time - self.steps) * rates)
            # Rounding must not let the tail begin below the last step.
            return np.asarray(np.maximum(reached, last), dtype=np.float64)

        return level

    def quantile(self, tau: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        wanted = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(self),))
        time = 1.0 + np.count_nonzero(self._levels < wanted[:, None], axis=1)
        later = np.flatnonzero(time > self.steps)
        if later.size:
            target, rates = wanted[later], self._tail_rates[later]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                further = (-np.log1p(-target) - self._at_end[later]) / rates
            guess = np.where(rates > 0, self.steps + np.ceil(further), math.inf)
            # Step K is known to be too early, so nothing before it is asked for.
            time[later] = smallest_time(self._in_tail(later), target, guess, after=self.steps)
        return np.asarray(time, dtype=np.float64)

    def expected_draws(self, horizon: ArrayLike) -> FloatArray:
        """See `ExpectsDraws`."""
        t = np.broadcast_to(np.asarray(horizon, dtype=np.float64), (len(self),))
        column = np.clip(t, 0, self.steps).astype(np.int64)
        within = self._sums[np.arange(len(self)), column]
        further = np.maximum(t - self.steps, 0.0)
        caught = level_at_rate(self._tail_rates, further)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(self.tail > 0, caught / self.tail, further)
        return np.asarray(within + np.exp(-self._at_end) * mean, dtype=np.float64)

    @cached_property
    def _sums(self) -> FloatArray:
        """sum_{s < t} P(T > s) for t = 0 .. K, shape (n, K + 1)."""
        alive = np.column_stack([np.ones(len(self)), 1.0 - self._levels[:, :-1]])
        return np.column_stack([np.zeros(len(self)), np.cumsum(alive, axis=1)])


class Mixture:
    """Several predictions at once: level(t) = sum_j w_j level_j(t).

    `parts` are predictions for the same n units; `weights`, shape (J,) or (n, J), are not negative
    and are scaled to sum to 1 (default: equal). Raises `UsageError` for anything else.

    >>> both = Mixture([Geometric([0.5]), Geometric([0.001])], weights=[0.25, 0.75])
    >>> both.level(1).tolist(), both.quantile([0.3]).tolist()
    ([0.12575], [69.0])
    """

    def __init__(
        self, parts: Sequence[PredictedTimes], *, weights: ArrayLike | None = None
    ) -> None:
        if not parts or len({len(part) for part in parts}) != 1:
            raise UsageError("a mixture needs parts, all of them for the same units")
        n, j = len(parts[0]), len(parts)
        given = np.ones(j) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape not in ((j,), (n, j)):
            raise UsageError(f"weights have shape {given.shape}: give ({j},) or ({n}, {j})")
        total = given.sum(axis=-1, keepdims=True)
        if not (np.isfinite(given).all() and (given >= 0).all() and (total > 0).all()):
            raise UsageError("weights must be finite and not negative, with a sum above 0")
        self._parts = tuple(parts)
        self._weights = np.broadcast_to(given / total, (n, j))

    def __len__(self) -> int:
        return len(self._parts[0])

    def take(self, indices: NDArray[Any]) -> Mixture:
        """See `PredictedTimes`."""
        parts = [part.take(indices) for part in self._parts]
        return Mixture(parts, weights=self._weights[indices])

    def level(self, time: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        return np.minimum(self._sum([part.level(time) for part in self._parts]), 1.0)

    def quantile(self, tau: ArrayLike) -> FloatArray:
        """See `PredictedTimes`."""
        wanted = np.broadcast_to(np.asarray(tau, dtype=np.float64), (len(self),))
        guess = np.median([part.quantile(wanted) for part in self._parts], axis=0)
        return smallest_time(self.level, wanted, guess)

    def expected_draws(self, horizon: ArrayLike) -> FloatArray:
        """See `ExpectsDraws`."""
        return self._sum([expected_draws(part, horizon) for part in self._parts])

    def _sum(self, values: Sequence[FloatArray]) -> FloatArray:
        total = np.zeros(len(self))
        for j, value in enumerate(values):  # in one order: rounding keeps levels monotone in time
            total += self._weights[:, j] * value
        return total


def expected_draws(predicted: PredictedTimes, horizon: ArrayLike) -> FloatArray:
    """E[min(T, `horizon`)], shape (n,): exact where `predicted` knows it, else by quadrature."""
    if isinstance(predicted, ExpectsDraws):
        return predicted.expected_draws(horizon)
    limit = np.broadcast_to(np.asarray(horizon, dtype=np.float64), (len(predicted),))
    total = np.zeros(len(predicted))
    for node in range(_NODES):
        total += np.minimum(predicted.quantile((node + 0.5) / _NODES), limit)
    return total / _NODES


def event_rate(predicted: PredictedTimes, horizon: FloatArray) -> FloatArray:
    """P(T <= horizon) / E[min(T, horizon)], events per draw, shape (n,): p where T is geometric.

    Where `horizon` is 0 it is the hazard of the first draw.
    """
    if isinstance(predicted, Geometric):
        return predicted.p
    looked = np.maximum(horizon, 1.0)
    return np.asarray(predicted.level(looked) / expected_draws(predicted, looked))


def earliest_last(predicted: PredictedTimes) -> NDArray[np.intp]:
    """The units in order of how early their events are expected, the latest first."""
    if isinstance(predicted, Geometric):
        return predicted.ascending
    logs = sum(np.log(predicted.quantile(level)) for level in _ORDERING_LEVELS)
    return np.argsort(-np.asarray(logs), kind="stable")


def smallest_time(
    level: Callable[[FloatArray], FloatArray],
    tau: FloatArray,
    guess: FloatArray,
    *,
    after: int = 0,
) -> FloatArray:
    """Smallest t > `after` with level(t) >= `tau`, at most `MAX_TIME`; shapes (n,).

    `level` maps times of shape (n,) to levels that do not fall as times grow; it is asked for none
    before `after`. `guess` is a time for each: the closer, the faster.
    """
    top, bottom = float(MAX_TIME), float(after)
    high = np.floor(np.clip(guess, bottom + 1.0, top))
    low = high - 1.0
    reach = 1.0
    while True:  # until level(low) < tau <= level(high), or an end is reached
        late = (low > bottom) & (level(low) >= tau)
        early = (high < top) & (level(high) < tau)
        if not (late | early).any():
            break
        high, low = np.where(late, low, high), np.where(early, high, low)
        low = np.where(late, np.maximum(low - reach, bottom), low)
        high = np.where(early, np.minimum(high + reach, top), high)
        reach *= 8.0
    while (high - low > 1).any():
        between = np.floor((low + high) / 2)
        enough = level(between) >= tau
        low, high = np.where(enough, low, between), np.where(enough, between, high)
    return high


def as_predicted(values: Any) -> PredictedTimes:
    """`values` if they are predictions, else `Geometric` of them, unchecked."""
    return values if isinstance(values, PredictedTimes) else Geometric(values)


def _checked_hazards(values: ArrayLike, name: str, dimensions: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != dimensions:
        shape = "(n, K)" if dimensions == 2 else "(n,)"
        raise UsageError(f"{name} must have shape {shape}, not {array.shape}")
    wrong = np.argwhere(~((array >= 0) & (array <= 1)))
    if len(wrong):
        place = ", ".join(map(str, wrong[0].tolist()))
        raise UsageError(
            f"{name}[{place}] is {array[tuple(wrong[0])]:g}, not a probability in [0, 1] "
            f"({len(wrong)} of {array.size} values are wrong)"
        )
    return array
