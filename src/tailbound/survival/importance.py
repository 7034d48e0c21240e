r"""Coverage beyond the sampling budget: the calibration curve from weighted draws.

To follow a prompt to its bound L takes up to L draws. Weighted draws X = w h >= 0 with mean p
(importance sampling) need far fewer. Let a draw be made at each of the positions 1 .. M with
probability r, independently. For t <= M the product over the positions up to t,

    prod_{positions <= t} (1 - X / r),        has the mean (1 - p)^t = P(T > t)

whatever p is: a position contributes the factor 1 - r p / r. The J draws of a prompt stand at a
random subset of the positions. The mean over all such subsets, given the draws, has the same
expectation, less variance, and uses all J draws at every t:

    S(t) = sum_m P(m of the J positions are <= t) e_m(1 - X_1 / r, ..., 1 - X_J / r) / C(J, m),

where e_m is the elementary symmetric polynomial and the probability hypergeometric. S is unbiased
for all M, r and t. It is neither monotone nor within [0, 1], and clipping it would bias it.

The curve at level tau is 1 - mean S_i(L_i(tau) - 1) over the calibration prompts, with the same
draws at every tau; tau_hat is the level at which it first exceeds alpha.

With c = E[X^2] / p^2 the variance of S(t) is about (1 - p)^(2 t) (exp(c (p t)^2 / (r M)) - 1). At
tau_hat p t is about alpha, so that few more than c alpha^2 draws are enough for most prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival.geometric import quantile, rate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_LEVEL = 0.95
"""The highest level considered."""
LONGEST = 1_000_000
"""The longest bound considered."""
LEAST_EFFECTIVE, LARGEST_ERROR = 10.0, 1 / 3
"""Effective prompts that a level needs, and its largest standard error as a share of alpha."""
MISSED_SHARES = (0.1, 0.2, 0.5)
"""Shares of the risk of every prompt for which it is said what missing them would do."""
_COARSE, _FINE, _LEAST = 120, 60, 1e-5


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightedDraws:
    """The draws of one calibration prompt.

    `terms` (J,) are X = w h with mean p, `positions` is M, and `chance` r, with which a draw was
    made at each of them: J must come from Binomial(M, r).
    """

    terms: FloatArray
    positions: int
    chance: float

    def survival(self, times: ArrayLike) -> FloatArray:
        """Unbiased estimates of P(T > t) at whole `times` 0 <= t <= M, shape (times,).

        >>> WeightedDraws(terms=np.array([0.0, 0.5]), positions=2, chance=1.0).survival([0, 1, 2])
        array([1.  , 0.75, 0.5 ])
        """
        t = np.asarray(times, dtype=np.float64)
        if t.size and (t.min() < 0 or t.max() > self.positions):
            raise UsageError(f"times must lie in 0 .. {self.positions}, not {t.min()} .. {t.max()}")
        factors = 1 - self.terms / self.chance if self.terms.size else self.terms
        scale = max(1.0, float(np.abs(factors).max(initial=0.0)))
        means = _mean_products(factors / scale)
        chances = _log_hypergeometric(t, self.positions, self.terms.size)
        grown = chances + np.arange(self.terms.size + 1) * np.log(scale)
        return np.asarray(np.exp(np.minimum(grown, 700.0)) @ means, dtype=np.float64)


def _mean_products(factors: FloatArray) -> FloatArray:
    """Of each number m = 0 .. J of `factors` (J,), the mean of their products, (J + 1,)."""
    means = np.zeros(factors.size + 1)
    means[0] = 1.0
    for count, factor in enumerate(factors, start=1):
        share = np.arange(1, count + 1) / count
        means[1 : count + 1] = (1 - share) * means[1 : count + 1] + share * factor * means[:count]
    return means


def _log_hypergeometric(t: FloatArray, positions: int, draws: int) -> FloatArray:
    """Log P(m of `draws` positions among 1 .. `positions` are at most t), (times, draws + 1)."""
    m = np.arange(draws + 1)
    early = t[:, None]
    late = positions - early
    possible = (m <= early) & (draws - m <= late)

    def choices(n: FloatArray, k: NDArray[np.int64]) -> FloatArray:
        n, k = np.where(possible, n, draws), np.where(possible, k, 0)
        return _log_choices(n, k)

    total = _log_choices(np.array(float(positions)), np.array(draws))
    found = choices(early, m) + choices(late, draws - m) - total
    return np.asarray(np.where(possible, found, -np.inf), dtype=np.float64)


def _log_choices(n: FloatArray, k: NDArray[np.int64]) -> FloatArray:
    """Log C(n, k), with the digits of large n kept (log-gamma alone loses them)."""
    from scipy.special import gammaln

    large = n > 1e6
    with np.errstate(divide="ignore", invalid="ignore"):
        near = gammaln(n + 1) - gammaln(n - k + 1)
        # prod (n - i) for i < k, to the second order in k / n
        far = k * np.log(np.maximum(n, 1.0)) - k * (k - 1) / (2 * np.maximum(n, 1.0))
    return np.asarray(np.where(large, far, near) - gammaln(k + 1), dtype=np.float64)


def planned_positions(
    p_hat: ArrayLike, draws: float, *, max_level: float = MAX_LEVEL, longest: int = LONGEST
) -> tuple[IntArray, FloatArray]:
    """M and r of each prompt for about `draws` draws, from its prediction in (0, 1], both (n,).

    M + 1 is the longest bound of the prompt that is considered: its quantile at `max_level`, at
    most `longest`.

    >>> planned_positions([0.5, 1e-3], 15)
    (array([   4, 2994]), array([1.        , 0.00501002]))
    """
    positions = np.minimum(quantile(np.asarray(p_hat, dtype=np.float64), max_level), longest) - 1
    with np.errstate(divide="ignore"):
        chance = np.minimum(1.0, draws / positions.astype(np.float64))
    return positions, np.where(positions > 0, chance, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightedCurve:
    """The curve of estimated miscoverage P(T < L) over levels, from the draws of all prompts.

    `p_hat` (n,) are the predictions whose quantiles, at most `longest`, are the bounds.
    """

    prompts: Sequence[WeightedDraws]
    p_hat: FloatArray
    longest: int = LONGEST
    max_level: float = MAX_LEVEL

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.p_hat) or not self.prompts:
            raise UsageError(
                f"{len(self.prompts)} prompts with draws and {len(self.p_hat)} predictions: give "
                "one of each for every prompt, and at least one"
            )

    def bounds(self, levels: ArrayLike) -> IntArray:
        """The bounds at `levels`, shape (prompts, levels)."""
        tau = np.asarray(levels, dtype=np.float64)
        return np.minimum(quantile(self.p_hat[:, None], tau[None]), self.longest)

    def survival(self, levels: ArrayLike) -> FloatArray:
        """Estimates of P(T >= L) for each prompt at its bounds, shape (prompts, levels)."""
        times = np.minimum(
            self.bounds(levels) - 1, np.array([one.positions for one in self.prompts])[:, None]
        )
        found = [one.survival(row) for one, row in zip(self.prompts, times, strict=True)]
        return np.stack(found)

    def miscoverage(self, levels: ArrayLike) -> FloatArray:
        """1 - mean of `survival`, shape (levels,)."""
        return np.asarray(1 - self.survival(levels).mean(axis=0), dtype=np.float64)

    def first_crossings(
        self, alphas: Sequence[float], *, without: int | None = None
    ) -> list[float]:
        """The level up to which the curve has not exceeded each of `alphas`.

        `max_level` where it never does, and 0 where it does from the beginning. `without` leaves
        the prompt of that number out.
        """
        kept = np.arange(len(self.prompts)) != (-1 if without is None else without)
        levels, survival = self._coarse
        coarse = 1 - survival[kept].mean(axis=0)
        found = []
        for alpha in alphas:
            over = np.flatnonzero(~(coarse <= alpha))
            if not over.size:
                found.append(self.max_level)
                continue
            low = float(levels[over[0] - 1]) if over[0] else 0.0
            between = np.linspace(low, float(levels[over[0]]), _FINE + 1)
            fine = 1 - self.survival(between)[kept].mean(axis=0)
            first = int(np.argmax(~(fine <= alpha)))
            found.append(float(between[first - 1]) if first else 0.0)
        return found

    @cached_property
    def _coarse(self) -> tuple[FloatArray, FloatArray]:
        """Levels from next to nothing to `max_level`, and the estimates of every prompt there."""
        top = float(rate(self.max_level))
        levels = -np.expm1(-np.geomspace(_LEAST * top, top, _COARSE))
        return levels, self.survival(levels)


@dataclass(frozen=True, kw_only=True)
class Missed:
    """The coverage if a `share` of the risk of every prompt were on routes that no draw met."""

    share: float
    coverage: float


@dataclass(frozen=True, kw_only=True)
class CurveAtLevel:
    """What the curve rests on at a level.

    `miscoverage` is its value, `standard_error` that of the mean over prompts and `interval` the
    asymptotic 95% one. `effective_prompts` is (sum l)^2 / sum l^2 over the terms l = 1 - S of
    prompts: how many equal ones would be as noisy. `hits` are draws with X > 0 and
    `prompts_with_hits` their prompts.
    `smallest` and `largest` are the ends of the estimates of single prompts, `outside` how many of
    them lie outside [0, 1], as unbiased ones may. `largest_share` is that of the prompt that adds
    most to the miscoverage, and `level_without_it` the level if it were left out. `if_missed` says
    what routes that no draw met would do.
    """

    miscoverage: float
    standard_error: float
    interval: tuple[float, float]
    effective_prompts: float
    hits: int
    prompts_with_hits: int
    smallest: float
    largest: float
    outside: int
    largest_share: float
    level_without_it: float
    if_missed: tuple[Missed, ...]

    def reliable(self, alpha: float) -> bool:
        """Whether there is enough to say that the miscoverage is about `alpha`."""
        return (
            self.effective_prompts >= LEAST_EFFECTIVE
            and self.standard_error <= LARGEST_ERROR * alpha
        )


def examine(curve: WeightedCurve, level: float, alpha: float) -> CurveAtLevel:
    """What `curve` rests on at `level`, where it reaches `alpha`.

    If a share s of each risk were missed, the draws would be those of risks p = (1 - s) of the true
    ones, and the true P(T > t) those of t / (1 - s): that is read off the same curve.
    """
    found = curve.survival([level])[:, 0]
    n = found.size
    error = float(found.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    lost = 1 - found
    mean = float(lost.mean())
    top = int(np.argmax(lost))
    total = float(np.abs(lost).sum())
    (without,) = curve.first_crossings([alpha], without=top) if n > 1 else [0.0]
    hits = np.array([int((one.terms > 0).sum()) for one in curve.prompts])
    shares = np.array(MISSED_SHARES)
    longer = -np.expm1(np.log1p(-level) / (1 - shares))
    longer = np.minimum(longer, curve.max_level)
    return CurveAtLevel(
        miscoverage=mean,
        standard_error=error,
        interval=(mean - 1.96 * error, mean + 1.96 * error),
        effective_prompts=mean**2 / float((lost**2).mean()) * n if total > 0 else 0.0,
        hits=int(hits.sum()),
        prompts_with_hits=int((hits > 0).sum()),
        smallest=float(found.min()),
        largest=float(found.max()),
        outside=int(((found < 0) | (found > 1 + 1e-12)).sum()),
        largest_share=float(lost[top] / total) if total > 0 else 0.0,
        level_without_it=without,
        if_missed=tuple(
            Missed(share=float(share), coverage=float(1 - value))
            for share, value in zip(shares, curve.miscoverage(longer), strict=True)
        ),
    )
