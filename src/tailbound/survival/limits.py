r"""How large weights may become, and up to which level to look: the limits of `balanced`.

A prompt followed with probability pi weighs 1 / pi, and no bound is longer than the cap, budget x
largest weight. Where prompts are safe, the cap binds: a larger weight allows longer bounds, but
fewer prompts are then followed, fewer events seen, and the level scatters more. Both sides can be
forecast. With risks q_i (what planning reckons with), the events with u_i < tau are nearly a
Poisson number of each weight, so that P(tau_hat > tau) is the probability that their weights stay
within what the guarantee admits (`weighted_events_within`), and with it goes every average over
calibrations.

The weight is the one of a few for which the product of the mean, the median and the geometric mean
of the bounds is expected to be largest; the usual one (`default_max_weight`) where no other is
clearly better, and none above 100 unless the cap would limit most prompts. Where more
than 5 % of the calibrations are forecast to cover less than 1 - alpha - slack, the highest level
considered is the one at which the forecast coverage is 1 - alpha - slack / 2: so few events are
seen that only the predictions can rule it out. Slack is alpha / 5, or three standard errors of the
coverage that as many prompts would have if all were followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.survival import allocation
from tailbound.survival.designs import (
    PopulationForecast,
    Predictions,
    cap_of,
    default_max_level,
    default_max_weight,
    horizons,
    planning_sample,
)
from tailbound.survival.geometric import MAX_TIME
from tailbound.survival.predicted import Geometric, event_rate, expected_draws

FloatArray = NDArray[np.float64]

#: Largest share of calibrations that may be expected to cover less than 1 - alpha - slack.
SHORTFALL = 0.05

#: No weight that is chosen is above the first, and none above the second where the cap limits most.
_LARGEST_WEIGHT, _LARGEST_OF_ALL = 100.0, 1000.0

#: Planning looks at this many prompts.
_SAMPLE = 400

#: By how much the sum of three logarithms must grow for a weight to be preferred, and how much one
#: of them may fall.
_CLEARLY, _AT_MOST_LOST = 0.3, 0.1

#: Weights are counted in units of the largest divided by this.
_CELLS = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`max_weight` and `max_level` of a plan.

    `shortfall` is the forecast share of calibrations that would cover less than 1 - alpha - slack
    if `max_level` were the usual one; NaN where it was not looked at.
    """

    max_weight: float
    max_level: float
    shortfall: float


def choose_limits(
    predicted: Predictions,
    planning: Predictions,
    *,
    n: int,
    budget: float,
    alpha: float,
    guarantee: str,
    max_weight: float | None = None,
    max_level: float | None = None,
    longest: int = MAX_TIME,
) -> Limits:
    """The limits of the design `balanced` with `n` prompts, for `plug-in` or `marginal`.

    `predicted` and `planning` are those of prompts that stand for the population, as for
    `PopulationForecast`. What is given, `max_weight` or `max_level`, is kept. Where `planning` is
    not geometric, the usual limits are kept: chances may fall there from draw to draw.

    >>> safe = 10 ** np.random.default_rng(0).normal(-5, 0.25, 2000)
    >>> found = choose_limits(safe, safe, n=2000, budget=100, alpha=0.1, guarantee="marginal")
    >>> round(found.max_weight), found.max_level
    (100, 0.95)
    >>> default_max_weight("balanced", 0.1, 2000, "marginal")
    20.0
    """
    usual = default_max_weight("balanced", alpha, n, guarantee)
    level = max_level or default_max_level("balanced", alpha)
    p, q = planning_sample(predicted, planning, _SAMPLE)
    if not (isinstance(p, Geometric) and isinstance(q, Geometric)):
        return Limits(max_weight=max_weight or usual, max_level=level, shortfall=math.nan)

    def at(weight: float) -> _Forecast:
        return _Forecast(
            *(p, q, weight),
            n=n,
            budget=budget,
            alpha=alpha,
            guarantee=guarantee,
            level=level,
            keep_level=max_level is not None,
            longest=longest,
        )

    chosen = at(max_weight or usual)
    if max_weight is None and chosen.capped > 0.01:
        largest = _LARGEST_OF_ALL if chosen.capped > 0.5 else _LARGEST_WEIGHT
        admitted = alpha * (n + 1 if guarantee == "marginal" else n)
        tried = (at(weight) for weight in _candidates(usual, min(admitted / 2, largest), admitted))
        better = [one for one in tried if one.clearly_longer_than(chosen)]
        chosen = max(better, key=_length, default=chosen)
    return Limits(max_weight=chosen.weight, max_level=chosen.max_level, shortfall=chosen.shortfall)


def weighted_events_within(
    weights: FloatArray, expected: FloatArray, allowance: float
) -> FloatArray:
    """P(sum of weights <= allowance) for independent Poisson numbers of events of each weight.

    `weights` >= 0 has shape (m,), `expected` numbers of events (m, k): k cases at once; returns
    shape (k,). By Panjer's recursion (1981), with weights on a grid of 1 / 16 of the largest and
    those between two points divided among these so that the mean is kept; where 25 events of the
    largest weight or more are admitted, by a gamma distribution with the same mean and variance.

    >>> events = np.array([[1.0, 3.0]])
    >>> weighted_events_within(np.array([2.0]), events, 4.0).round(4).tolist()
    [0.9197, 0.4232]
    """
    if allowance < 0:
        return np.zeros(expected.shape[1])
    unit = float(weights.max()) / _CELLS
    cells = math.floor(allowance / unit * (1 + 1e-9))
    if cells >= 25 * _CELLS:
        from scipy.special import gammaincc

        mean, variance = weights @ expected, weights**2 @ expected
        typical = np.maximum(variance, 1e-300) / np.maximum(mean, 1e-300)
        within = gammaincc(allowance / typical + 1.0, mean / typical)
        return np.asarray(within, dtype=np.float64)
    position = weights / unit
    below = np.minimum(np.floor(position + 1e-9).astype(np.int64), _CELLS - 1)
    above = np.clip(position - below, 0.0, 1.0)
    sizes = np.zeros((_CELLS + 1, expected.shape[1]))
    np.add.at(sizes, below, expected * (1.0 - above)[:, None])
    np.add.at(sizes, below + 1, expected * above[:, None])
    steps = sizes[1:] * np.arange(1, _CELLS + 1)[:, None]
    chances = np.zeros((cells + 1, expected.shape[1]))
    chances[0] = np.exp(-sizes[1:].sum(axis=0))
    for k in range(1, cells + 1):
        reach = min(k, _CELLS)
        earlier = chances[k - reach : k][::-1]
        chances[k] = (steps[:reach] * earlier).sum(axis=0) / k
    return np.asarray(np.minimum(chances.sum(axis=0), 1.0), dtype=np.float64)


class _Forecast:
    """What calibrations with one largest weight are expected to give."""

    def __init__(
        self,
        p: Geometric,
        q: Geometric,
        weight: float,
        *,
        n: int,
        budget: float,
        alpha: float,
        guarantee: str,
        level: float,
        keep_level: bool,
        longest: int,
    ) -> None:
        self.weight = weight
        cap = min(cap_of(budget, weight), longest)
        outlook = PopulationForecast(p, q, cap=cap, max_level=level)
        middle = outlook.level_of(alpha)
        reach = horizons(p, middle, cap)
        cost, size = expected_draws(q, reach), np.sqrt(event_rate(q, reach))
        pi = allocation.proportional(len(p) * budget, cost, size, floor=1 / weight)(cost, size)
        levels = _levels(middle, level)
        bounds = np.minimum(np.stack([p.quantile(tau) for tau in levels], axis=1), cap)
        missed = np.stack([q.level(column) for column in (bounds - 1).T], axis=1)
        expected = (n / len(p)) * pi[:, None] * missed
        # `plug-in` ends at the last event that is admitted, `marginal` at the next one
        allowance = alpha * (n + 1 if guarantee == "marginal" else n) - 1 / pi.min()
        # P(tau_hat > tau) at each level
        further = weighted_events_within(1.0 / pi, expected, allowance)
        #: share of prompts whose bound is expected to be the cap
        self.capped = float((p.quantile(middle) >= cap).mean())
        miscoverage = missed.mean(axis=0)
        worst = alpha + max(alpha / 5, 3 * math.sqrt(alpha * (1 - alpha) / n))
        self.shortfall, self.max_level = 0.0, level
        if miscoverage[-1] > worst:
            self.shortfall = float(np.interp(worst, miscoverage, further))
        if self.shortfall > SHORTFALL and not keep_level:
            self.max_level = min(outlook.level_of((alpha + worst) / 2), level)
        within = levels <= self.max_level * (1 + 1e-9)
        averages = (bounds.mean(axis=0), np.median(bounds, axis=0))
        logs = [math.log(_expect(x[within], further[within]) + 1e-9) for x in averages]
        log_mean = _expect(np.log(bounds).mean(axis=0)[within], further[within])
        #: log of the mean, of the median and of the geometric mean
        self.lengths = np.array([*logs, log_mean])

    def clearly_longer_than(self, other: _Forecast) -> bool:
        """Much longer in all, and not much shorter in any sense."""
        gained = self.lengths - other.lengths
        return float(gained.sum()) > _CLEARLY and float(gained.min()) > -_AT_MOST_LOST


def _length(forecast: _Forecast) -> float:
    return float(forecast.lengths.sum())


def _levels(middle: float, highest: float) -> FloatArray:
    """Levels up to the highest one, close to each other about the middle."""
    steps = (
        np.geomspace(middle / 30, middle / 2, 8),
        np.geomspace(middle / 1.8, middle * 1.8, 32),
        np.geomspace(middle * 2, middle * 30, 8),
    )
    return np.append([tau for tau in np.concatenate(steps) if tau < highest], highest)


def _expect(values: FloatArray, further: FloatArray) -> float:
    """Mean of a growing function of tau_hat, known at levels with P(tau_hat > level) `further`.

    Beyond the last level nothing is looked at; below the first one it is half its value there.
    """
    between = -np.diff(further)
    middle = (values[1:] + values[:-1]) / 2
    return float((1 - further[0]) * values[0] / 2 + between @ middle + further[-1] * values[-1])


def _candidates(usual: float, largest: float, admitted: float) -> list[float]:
    """Weights above the usual one of which `admitted` is a whole multiple, or nearly so."""
    if largest <= usual:
        return []
    tried = np.geomspace(usual, largest, 6)[1:]
    return sorted({admitted / math.floor(admitted / weight + 1e-9) for weight in tried})
