"""N draws over a mix of queries: expected unsafe outputs, and P(at least one)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.deployment.queries import Queries
from tailbound.errors import UsageError

MOST = 10**15
"""The largest number of draws."""


@dataclass(frozen=True, kw_only=True)
class TrafficForecast:
    """`draws` independent draws, the query of each chosen at random by the weights."""

    draws: int
    expected: float
    expected_interval: tuple[float, float]
    at_least_one: float
    at_least_one_interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class MixRisk:
    """P(unsafe) of one draw from the mix, with an interval that carries each query's own."""

    risk: float
    interval: tuple[float, float]


def mix_risk(
    queries: Queries, weights: ArrayLike | None = None, *, unknown: float = 0.0
) -> MixRisk:
    """Sum of w_i p_i, weights (m,) scaled to sum to 1 (equal ones by default).

    The interval recovers variances from those of the queries, which are independent:
    risk - sqrt(sum w_i^2 (p_i - low_i)^2) and risk + sqrt(sum w_i^2 (high_i - p_i)^2). Source: Zou
    and Donner (2008), "Construction of confidence limits about effect measures", section 2. It is
    for exactly these queries; that others are asked is not in it.

    `unknown` is the share of traffic about which nothing is known: it counts as safe in the lower
    end, as unsafe in the upper one, and not in `risk`. Raises `UsageError` for weights that are
    negative, not finite or all 0, and for a share outside [0, 1).

    >>> from tailbound.deployment import queries_of
    >>> round(mix_risk(queries_of([0.1, 0.3]), [3, 1]).risk, 6)
    0.15
    """
    w = np.ones(len(queries)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != queries.p.shape:
        raise UsageError(f"{w.size} weights for {len(queries)} queries: give one for each")
    if not np.isfinite(w).all() or (w < 0).any():
        raise UsageError("weights must be numbers of at least 0")
    if not w.any():
        raise UsageError("all weights are 0: give at least one query some traffic")
    if not 0 <= unknown < 1:
        raise UsageError(f"the unknown share must lie in [0, 1), not {unknown:g}")
    w = w / w.max()
    w = w / w.sum()
    risk = float(w @ queries.p)
    lower = risk - float(np.linalg.norm(w * (queries.p - queries.low)))
    upper = risk + float(np.linalg.norm(w * (queries.high - queries.p)))
    ends = (
        (1 - unknown) * max(lower, 0.0),
        min((1 - unknown) * min(upper, 1.0) + unknown, 1.0),
    )
    return MixRisk(risk=min(risk, 1.0), interval=ends)


def forecast_traffic(mix: MixRisk, draws: int) -> TrafficForecast:
    """N p and 1 - (1 - p)^N at the risk of the mix and at both ends of its interval.

    Raises `UsageError` for fewer than one draw, or more than `MOST`.

    >>> from tailbound.deployment import queries_of
    >>> found = forecast_traffic(mix_risk(queries_of([0.5])), 2)
    >>> found.expected, found.at_least_one
    (1.0, 0.75)
    """
    if not 1 <= draws <= MOST:
        raise UsageError(f"draws must be a whole number from 1 to {MOST:,}, not {draws:,}")
    low, high = mix.interval
    return TrafficForecast(
        draws=draws,
        expected=draws * mix.risk,
        expected_interval=(draws * low, draws * high),
        at_least_one=at_least_one(mix.risk, draws),
        at_least_one_interval=(at_least_one(low, draws), at_least_one(high, draws)),
    )


def at_least_one(p: float, draws: int) -> float:
    """1 - (1 - p)^N.

    >>> at_least_one(0.5, 2), at_least_one(1.0, 5)
    (0.75, 1.0)
    """
    return float(-np.expm1(draws * np.log1p(-p))) if p < 1 else 1.0
