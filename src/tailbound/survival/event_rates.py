r"""How soon prompts of the population turn unsafe: P(T <= k), the mean of min(T, k), the curve.

Everything is a mean over the population of something that each followed prompt estimates without
bias, and what a prompt was not followed far enough to show is not made up: where followed prompts
end before k, the result is a bracket. Two kinds of prompts are followed:

* `counted_prompts`: a fixed number n of draws, c of them unsafe (training prompts). Averaged over
  all orders of the draws, P(T > t) = C(n - c, t) / C(n, t) for t <= n, and
  E[min(T, k)] = (n + 1) / (c + 1) (1 - C(n + 1 - k, c + 1) / C(n + 1, c + 1)) for k <= n.
  Draws are independent, so E[(1 - p)^t] is log-convex in t, and with j = n // 2
  P(T > k) >= S(n) (S(n) / S(j))^((k - n) / (n - j)) for k > n.
* `weighted_prompts`: followed with probability 1 / w to the first unsafe draw or a horizon that is
  fixed by the prompt alone (calibration prompts). w 1{T <= min(k, horizon)} estimates what is sure
  to be unsafe within k, and w 1{not seen to be safe to k} what may be; they are the same up to
  the shortest horizon of all prompts, followed or not.

Intervals are those of weighted sums of rare events (`mean_limits`): asymptotic in the number of
prompts, and in simulations not below their confidence (`benchmarks/rates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import none_among

FloatArray = NDArray[np.float64]

#: Points of the survival curve at most: each costs the band some width.
POINTS = 12


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """A number of the population about the first `draws` draws of its prompts.

    The estimate is `lower` where it equals `upper`; otherwise what was drawn does not identify it,
    and it lies between them. `interval` holds with the confidence of the `Rates`; its upper end is
    None where there is none.
    """

    draws: int
    lower: float
    upper: float | None
    interval: tuple[float, float | None]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How soon prompts of the population turn unsafe, from `prompts` independent prompts.

    `within` is P(T <= k); `restricted_mean` is E[min(T, k)] and `draws_per_find`
    E[min(T, k)] / P(T <= k), the draws that one unsafe output costs if each prompt is sampled until
    its first or k times, for k = `identified_to`, the largest k that needs no bracket (or, if that
    is 0, for the largest k asked for). `survival` is P(T > t) on a grid: its intervals hold all at
    once, and as a step function between (lower ends reach back, upper ends forward). The
    others hold each by itself. The confidence is asymptotic.
    """

    prompts: int
    confidence: float
    identified_to: int
    within: tuple[Bracket, ...]
    restricted_mean: Bracket
    draws_per_find: Bracket
    survival: tuple[Bracket, ...]


class FollowedPrompts(Protocol):
    """What each independent prompt, or group of wordings, says of the population."""

    identified_to: int
    bound: float
    """No value of `unsafe` or `maybe` is larger."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def unsafe(self, k: int) -> FloatArray:
        """Values >= 0, shape (n,), whose mean estimates at most P(T <= k)."""
        ...

    def maybe(self, k: int) -> FloatArray:
        """Values >= 0, shape (n,), whose mean estimates at least P(T <= k)."""
        ...

    def unsafe_draws(self, k: int) -> FloatArray:
        """The sum of `unsafe(t)` over t = 1 .. k - 1."""
        ...

    def maybe_draws(self, k: int) -> FloatArray:
        """The sum of `maybe(t)` over t = 1 .. k - 1."""
        ...

    def beyond(self, k: int, confidence: float) -> tuple[float, float]:
        """Estimate and lower confidence limit of a number that is at most P(T > k); 0 for none."""
        ...


def rates(
    followed: FollowedPrompts, *, within: Sequence[int] = (), confidence: float = 0.95
) -> Rates:
    """Everything that `followed` prompts say about how soon the population turns unsafe.

    `within` are the k of P(T <= k); by default powers of ten up to what is identified, and that.
    Raises `UsageError` for a k below 1, a confidence outside (0, 1) and without prompts.

    >>> followed = counted_prompts(unsafe=[0, 0, 1, 10], draws=20)
    >>> found = rates(followed, within=[1, 20, 40])
    >>> [(one.draws, round(one.lower, 3), round(one.upper, 3)) for one in found.within]
    [(1, 0.137, 0.137), (20, 0.5, 0.5), (40, 0.5, 0.68)]
    """
    if len(followed) == 0:
        raise UsageError("there are no followed prompts: rates need some")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    for k in within:
        if k < 1:
            raise UsageError(f"within must be at least 1 draw, not {k}")
    side = (1 + confidence) / 2
    known = followed.identified_to
    ks = sorted(set(within)) or _default_ks(known)
    k = known if known > 0 else max(ks)
    points = _grid(max(known, *ks))
    each = 1 - (1 - confidence) / (2 * len(points))
    return Rates(
        prompts=len(followed),
        confidence=confidence,
        identified_to=known,
        within=tuple(_bracket(k, _within(followed, k, side)) for k in ks),
        restricted_mean=_bracket(k, _restricted_mean(followed, k, side)),
        draws_per_find=_draws_per_find(followed, k, (1 + side) / 2),
        survival=tuple(_bracket(t, _survival(followed, t, each)) for t in points),
    )


def counted_prompts(
    unsafe: ArrayLike,
    draws: ArrayLike,
    *,
    missing: ArrayLike = 0,
    units: Sequence[str] | None = None,
) -> FollowedPrompts:
    """Prompts with `unsafe` of `draws` independent draws each, shape (n,), `draws` fixed before.

    `missing` of the draws have no verdict: they may be unsafe or not, and widen the bracket.
    Wordings of one of `units` count as one prompt, by their mean. Raises `UsageError` for
    counts that contradict each other.

    >>> followed = counted_prompts(unsafe=[0, 1, 2], draws=10, units=["a", "b", "b"])
    >>> len(followed), followed.identified_to, followed.unsafe(5).round(3).tolist()
    (2, 10, [0.0, 0.639])
    """
    c = np.asarray(unsafe, dtype=np.float64)
    n = np.broadcast_to(np.asarray(draws, dtype=np.float64), c.shape)
    m = np.broadcast_to(np.asarray(missing, dtype=np.float64), c.shape)
    if c.ndim != 1 or (c < 0).any() or (m < 0).any() or (c + m > n).any() or (n < 1).any():
        raise UsageError("unsafe and missing draws must be at least 0, and at most draws in all")
    names = np.arange(c.size) if units is None else np.asarray(list(units))
    if names.shape != c.shape:
        raise UsageError(f"units has shape {names.shape}, unsafe {c.shape}: they must be the same")
    _, where = np.unique(names, return_inverse=True)
    return _Counted(c, m, n, where)


def weighted_prompts(
    first_unsafe: ArrayLike,
    horizons: ArrayLike,
    weights: ArrayLike,
    *,
    first_missing: ArrayLike = 0,
    weight_bound: float | None = None,
    units: ArrayLike | None = None,
) -> FollowedPrompts:
    """Prompts that were followed to the first unsafe draw or their horizon, or not at all.

    All have shape (n,), for *every* prompt that could have been followed. `weights` are inverse
    inclusion probabilities, 0 for prompts that were not followed; `horizons` are fixed by the
    prompt alone, and every followed one was followed as far unless it ended before; `first_unsafe`
    is the first unsafe draw up to there, 0 for none, and likewise `first_missing` a missing verdict
    that ended it. `weight_bound` is the largest weight that could have occurred, by default the
    largest that did. Entries of the same one of `units` (numbers, shape (n,)), such as replicates
    of one prompt, count as one prompt, by their mean. Raises `UsageError` for shapes that differ or
    numbers below 0.

    >>> followed = weighted_prompts([3, 0, 0], horizons=[5, 8, 6], weights=[2.0, 2.0, 0.0])
    >>> followed.identified_to, followed.unsafe(4).tolist(), followed.maybe(7).tolist()
    (5, [2.0, 0.0, 0.0], [2.0, 0.0, 0.0])
    """
    first = np.asarray(first_unsafe, dtype=np.float64)
    horizon, w = np.asarray(horizons, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    lost = np.broadcast_to(np.asarray(first_missing, dtype=np.float64), first.shape)
    if not first.shape == horizon.shape == w.shape or first.ndim != 1:
        raise UsageError(
            f"first_unsafe, horizons and weights have shapes {first.shape}, {horizon.shape} and "
            f"{w.shape}: they must be the same"
        )
    if any((values < 0).any() for values in (first, horizon, w, lost)):
        raise UsageError("first_unsafe, first_missing, horizons and weights must not be negative")
    largest = float(w.max(initial=1.0)) if weight_bound is None else weight_bound
    if units is None:
        return _Weighted(first, lost, horizon, w, largest)
    names = np.asarray(units)
    if names.shape != first.shape:
        raise UsageError(f"units has shape {names.shape}, weights {w.shape}: they must be the same")
    _, where = np.unique(names, return_inverse=True)
    return _Weighted(first, lost, horizon, w, largest, where)


def mean_limits(values: ArrayLike, *, bound: float, side: float) -> tuple[float, float]:
    r"""One-sided limits, each with confidence `side`, for the mean of values in [0, `bound`].

    With mean y, variance V of the mean and w = bound / n, quantiles of the gamma distributions that
    have mean y and variance V, and mean y + w and variance V + w^2: one more value, the largest
    possible, that was not seen. For means above bound / 2 the same for bound - values. `values` has
    shape (n,), independent. Asymptotic; for rare events close to the exact limits of Clopper and
    Pearson. Source: Fay and Feuer (1997), "Confidence intervals for directly standardized rates".

    >>> low, high = mean_limits(np.r_[np.ones(6), np.zeros(294)], bound=1.0, side=0.975)
    >>> round(low, 4), round(high, 4)
    (0.0074, 0.0434)
    """
    from scipy.special import gammaincinv

    x = np.asarray(values, dtype=np.float64)
    if x.size < 2:
        return 0.0, bound
    mean = float(x.mean())
    if mean > bound / 2:
        low, high = mean_limits(np.maximum(bound - x, 0.0), bound=bound, side=side)
        return bound - high, bound - low
    variance, w = float(x.var(ddof=1)) / x.size, bound / x.size
    low = mean
    if variance > 1e-12 * mean**2:
        low = variance / mean * float(gammaincinv(mean**2 / variance, 1 - side))
    top, spread = mean + w, variance + w**2
    return min(low, mean), min(spread / top * float(gammaincinv(top**2 / spread, side)), bound)


class _Counted:
    """See `counted_prompts`."""

    bound = 1.0

    def __init__(self, c: FloatArray, m: FloatArray, n: FloatArray, unit: NDArray[np.intp]) -> None:
        self._unsafe, self._either, self._draws, self._unit = c, c + m, n, unit
        self._sizes = np.bincount(unit).astype(np.float64)
        self._fewest = int(n.min()) if n.size else 0
        self.identified_to = self._fewest if not m.any() else 0

    def __len__(self) -> int:
        return self._sizes.size

    def unsafe(self, k: int) -> FloatArray:
        return self._mean(1 - none_among(self._draws, self._unsafe, np.minimum(k, self._draws)))

    def maybe(self, k: int) -> FloatArray:
        survived = none_among(self._draws, self._either, np.minimum(k, self._draws))
        return self._mean(np.where(k <= self._draws, 1 - survived, 1.0))

    def unsafe_draws(self, k: int) -> FloatArray:
        until = np.minimum(k, self._draws)
        ever = 1 - none_among(self._draws, self._unsafe, self._draws)
        early = until - _mean_time(self._draws, self._unsafe, until)
        return self._mean(early + np.maximum(k - self._draws, 0.0) * ever)

    def maybe_draws(self, k: int) -> FloatArray:
        until = np.minimum(k, self._draws)
        # all that is known beyond n draws is that P(T > n) was not yet unsafe at n
        last = np.where(k > self._draws, none_among(self._draws, self._either, self._draws), 0.0)
        return self._mean(k - _mean_time(self._draws, self._either, until) - last)

    def beyond(self, k: int, confidence: float) -> tuple[float, float]:
        n = self._fewest
        if k <= n or n < 2:
            return 0.0, 0.0
        j = n // 2
        end, middle = 1 - self.maybe(n), 1 - self.maybe(j)
        if middle.mean() == 0:
            return 0.0, 0.0
        power, side = (k - n) / (n - j), (1 + confidence) / 2
        estimate = float(end.mean() * (end.mean() / middle.mean()) ** power)
        low, _ = mean_limits(end, bound=1.0, side=side)
        return estimate, low * _ratio_lower(end, middle, side) ** power

    def _mean(self, values: FloatArray) -> FloatArray:
        """Means over the prompts of each unit; rounding never makes them negative."""
        return np.maximum(np.bincount(self._unit, weights=values) / self._sizes, 0.0)


class _Weighted:
    """See `weighted_prompts`."""

    def __init__(
        self,
        first: FloatArray,
        lost: FloatArray,
        horizons: FloatArray,
        weights: FloatArray,
        bound: float,
        unit: NDArray[np.intp] | None = None,
    ) -> None:
        single = unit is None or len(np.unique(unit)) == len(unit)
        self._unit = None if single else unit
        self._sizes = np.ones(weights.size) if unit is None else np.bincount(unit).astype(float)
        self._event = np.where((first > 0) & (first <= horizons), first, np.inf)
        self._lost = np.where((lost > 0) & (lost <= horizons), lost, np.inf)
        # the last draw that is known to be safe
        self._safe_to = np.minimum(horizons, np.minimum(self._event, self._lost) - 1)
        self._weights, self.bound = weights, bound
        complete = horizons.size > 0 and not np.isfinite(self._lost).any()
        self.identified_to = int(horizons.min()) if complete else 0

    def __len__(self) -> int:
        return self._sizes.size

    def unsafe(self, k: int) -> FloatArray:
        return self._mean(self._weights * (self._event <= k))

    def maybe(self, k: int) -> FloatArray:
        return self._mean(self._weights * (self._safe_to < k))

    def unsafe_draws(self, k: int) -> FloatArray:
        return self._mean(self._weights * np.maximum(k - self._event, 0.0))

    def maybe_draws(self, k: int) -> FloatArray:
        return self._mean(self._weights * np.maximum(k - 1 - self._safe_to, 0.0))

    def beyond(self, k: int, confidence: float) -> tuple[float, float]:
        return 0.0, 0.0

    def _mean(self, values: FloatArray) -> FloatArray:
        """Means over the entries of each unit."""
        if self._unit is None:
            return np.asarray(values, dtype=np.float64)
        return np.bincount(self._unit, weights=values) / self._sizes


#: Lower confidence limit, the two ends of the estimate, upper confidence limit.
_Ends = tuple[float, float, float, float]


def _bracket(draws: int, ends: _Ends) -> Bracket:
    low, lower, upper, high = ends
    return Bracket(draws=draws, lower=lower, upper=upper, interval=(low, high))


def _within(followed: FollowedPrompts, k: int, side: float) -> _Ends:
    """P(T <= k), each limit with confidence `side`."""
    unsafe, maybe = followed.unsafe(k), followed.maybe(k)
    beyond, beyond_limit = followed.beyond(k, side)
    low, _ = mean_limits(unsafe, bound=followed.bound, side=side)
    _, high = mean_limits(maybe, bound=followed.bound, side=side)
    lower = min(float(unsafe.mean()), 1.0)
    upper = max(min(float(maybe.mean()), 1 - beyond), lower)
    return min(low, 1.0), lower, upper, min(high, 1 - beyond_limit)


def _survival(followed: FollowedPrompts, t: int, side: float) -> _Ends:
    """P(T > t)."""
    low, lower, upper, high = _within(followed, t, side)
    return 1 - high, 1 - upper, 1 - lower, 1 - low


def _restricted_mean(followed: FollowedPrompts, k: int, side: float) -> _Ends:
    """E[min(T, k)] = k - sum over t < k of P(T <= t), t >= 1."""
    unsafe, maybe = followed.unsafe_draws(k), followed.maybe_draws(k)
    bound = followed.bound * max(k - 1, 1)
    low, _ = mean_limits(unsafe, bound=bound, side=side)
    _, high = mean_limits(maybe, bound=bound, side=side)
    upper = max(k - float(unsafe.mean()), 1.0)
    lower = min(max(k - float(maybe.mean()), 1.0), upper)
    return max(k - high, 1.0), lower, upper, max(k - low, 1.0)


def _draws_per_find(followed: FollowedPrompts, k: int, side: float) -> Bracket:
    """E[min(T, k)] / P(T <= k): four limits, each with confidence `side`."""
    time_low, time_lower, time_upper, time_high = _restricted_mean(followed, k, side)
    low, lower, upper, high = _within(followed, k, side)
    return Bracket(
        draws=k,
        lower=time_lower / upper if upper > 0 else float(k),
        upper=time_upper / lower if lower > 0 else None,
        interval=(
            time_low / high if high > 0 else float(k),
            time_high / low if low > 0 else None,
        ),
    )


def _ratio_lower(top: FloatArray, bottom: FloatArray, side: float) -> float:
    """Lower confidence limit of E[top] / E[bottom] in [0, 1], for values top <= bottom in [0, 1].

    A ratio r is refuted where the mean of top + r (1 - bottom), at most r if the ratio is r or
    less, is bounded below by more than r.
    """
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        limit, _ = mean_limits(top + middle * (1 - bottom), bound=1.0, side=side)
        low, high = (middle, high) if limit > middle else (low, middle)
    return low


def _mean_time(n: FloatArray, c: FloatArray, k: FloatArray) -> FloatArray:
    """E[min(T, k)] over all orders of n draws, c of them unsafe; k <= n."""
    return (n + 1) / (c + 1) * (1 - none_among(n + 1, c + 1, k))


def _default_ks(known: int) -> list[int]:
    ks = [10**power for power in range(16) if 10**power < known]
    return [*ks, max(known, 1)]


def _grid(last: int) -> list[int]:
    """At most `POINTS` times from 1 to `last`, about evenly spread on a log scale."""
    return sorted({round(t) for t in np.geomspace(1, last, POINTS).tolist()})
