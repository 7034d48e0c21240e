"""The largest p among n new queries like those evaluated, by two tails, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tailbound.deployment.deconvolution import Posteriors, deconvolve, p_of, psi_of
from tailbound.deployment.queries import FloatArray, Queries
from tailbound.deployment.tails import (
    GumbelFit,
    GumbelTails,
    ParetoTails,
    finite_k_bias,
    fit_gumbel,
    largest,
    pareto_tails,
    pooled_tails,
    straightness,
)
from tailbound.errors import UsageError

FARTHEST = 1_000
"""Multiples of the number of evaluated queries beyond which nothing is forecast unasked."""
LEAST_QUERIES, LEAST_TOP = 10, 5
FEW_QUERIES = 100
REPLICATES = 2_000
STRAIGHT = 0.01
"""Chance of either test of a log-linear tail below which a warning is due."""
_NUMBERS = 20_000_000
_TAIL_AGREES = 1.0

Method = Literal["gumbel", "pareto"]


@dataclass(frozen=True, kw_only=True)
class Worst:
    """The largest p among `queries` new ones by one tail: median, and interval for what happens.

    `exceeds` is P(largest p > tau) for each threshold in order, averaged over what is not known of
    the tail, and `exceeds_interval` its interval.
    """

    queries: int
    method: Method
    median: float
    interval: tuple[float, float]
    exceeds: tuple[float, ...]
    exceeds_interval: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class PublishedForecast:
    """The published point forecast for n queries, and the bias that it has with finite k.

    `worst` is the p that one in n queries exceeds by the regression, medians over the posteriors;
    `finite_k_bias` what log10 of it is too high by on average if the tail is exactly log-linear.
    """

    queries: int
    worst: float
    finite_k_bias: float


@dataclass(frozen=True, kw_only=True)
class WorstForecast:
    """Forecasts of the worst query from `evaluated` ones, of which the `top` largest are fitted.

    `gap` and `bend` are chances of so uneven a tail if it were log-linear (see `straightness`),
    medians over the posteriors; `warnings` say in words what makes the forecasts doubtful.
    """

    evaluated: int
    top: int
    resolved_top: float
    gap: float
    bend: float
    forecasts: tuple[Worst, ...]
    published: tuple[PublishedForecast, ...]
    warnings: tuple[str, ...]


def usual_top(m: int) -> int:
    """How many of m queries the tail is fitted to: a twentieth, at least 10, at most half.

    >>> usual_top(50), usual_top(1_000), usual_top(12)
    (10, 50, 6)
    """
    return min(max(10, round(0.05 * m)), m // 2)


def forecast_worst(
    queries: Queries,
    ns: Sequence[int],
    *,
    taus: Sequence[float] = (),
    top: int | None = None,
    far: bool = False,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> WorstForecast:
    """The largest p among n new queries, for each n in `ns`, by both tails.

    The evaluated queries count as a random sample of the new ones. Each replicate draws every
    query's true p from its posterior (`deconvolve`), fits the `top` largest (one half of the
    replicates: half as many), draws a tail from what the fit leaves open, and from it the largest
    of n. Two numbers of largest queries widen intervals where the tail is curved. Intervals have
    the confidence of the queries'. Raises `UsageError` for fewer than 10 queries or 5 resolved
    ones, for an n beyond 1,000 times the evaluated queries unless `far`, or so small that the tail
    has no say, for a tau outside (0, 1), and for a `top` below 5 or above half of the queries.

    >>> from tailbound.deployment import queries_of
    >>> known = np.exp(-np.exp(-np.random.default_rng(0).gumbel(-2.5, 0.1, 200)))
    >>> found = forecast_worst(queries_of(known), [2_000], replicates=200)
    >>> found.forecasts[0].method, 0.001 < found.forecasts[0].median < 0.1
    ('gumbel', True)
    """
    m = len(queries)
    k = _checked(queries, ns, taus, top, far)
    rng = np.random.default_rng([seed, 2_502])
    psi, replicates = _largest_draws(deconvolve(queries), queries, k, rng, replicates)
    fit = fit_gumbel(psi[:, :k], m)
    tails: dict[Method, GumbelTails | ParetoTails] = {
        "gumbel": pooled_tails(psi, rng, k=k, m=m),
        "pareto": pareto_tails(psi[:, :k], psi[:, k], rng, m=m),
    }
    forecasts = tuple(
        _worst(tail, method, n, taus, queries.confidence, rng)
        for n in ns
        for method, tail in tails.items()
    )
    some = psi[:: max(1, replicates // 100)]
    gap, bend = np.median([straightness(row) for row in some], axis=0)
    resolved = _resolved_top(queries, k)
    return WorstForecast(
        evaluated=m,
        top=k,
        resolved_top=resolved,
        gap=float(gap),
        bend=float(bend),
        forecasts=forecasts,
        published=tuple(_published(fit, n, k, m, rng) for n in ns),
        warnings=tuple(_warnings(queries, ns, resolved, float(gap), float(bend), forecasts)),
    )


def _checked(
    queries: Queries, ns: Sequence[int], taus: Sequence[float], top: int | None, far: bool
) -> int:
    """The number of largest queries; raises `UsageError` for what cannot be forecast."""
    m, resolved = len(queries), int(queries.resolved.sum())
    if m < LEAST_QUERIES:
        raise UsageError(f"the worst of more queries takes {LEAST_QUERIES} evaluated ones, not {m}")
    if resolved < LEAST_TOP:
        raise UsageError(
            f"only {resolved} of {m:,} queries are resolved, and a tail takes {LEAST_TOP}: draw "
            "more from each query"
        )
    possible = int((queries.high > 0).sum()) - 1
    if possible < LEAST_TOP:
        raise UsageError(
            f"only {possible + 1} of {m:,} queries have a probability above 0, and a tail takes "
            f"{LEAST_TOP + 1}: evaluate more queries"
        )
    k = min(usual_top(m), possible) if top is None else top
    if k > possible:
        raise UsageError(f"--top {k:,}: only {possible:,} queries may be among the largest")
    if not LEAST_TOP <= k <= m // 2:
        raise UsageError(
            f"the tail is fitted to {LEAST_TOP} up to half of {m:,} queries, not {k:,}"
        )
    for n in ns:
        if n > FARTHEST * m and not far:
            raise UsageError(
                f"{n:,} queries are over {FARTHEST:,} times the {m:,} evaluated: evaluate more, or "
                "ask for it by --far"
            )
        if n * k < m:
            raise UsageError(
                f"the worst of {n:,} queries is no matter of the tail of {m:,}: ask for at least "
                f"{-(-m // k):,}"
            )
    for tau in taus:
        if not 0 < tau < 1:
            raise UsageError(f"--threshold must lie strictly between 0 and 1, not {tau:g}")
    return k


def _largest_draws(
    posteriors: Posteriors, queries: Queries, k: int, rng: np.random.Generator, replicates: int
) -> tuple[FloatArray, int]:
    """The k + 1 largest true psi of each replicate, (B, k + 1), and B: fewer for many queries."""
    size = max(200, min(replicates, _NUMBERS // len(queries)))
    rows = max(1, min(size, _NUMBERS // len(queries)))
    parts = []
    for start in range(0, size, rows):
        psi = posteriors.draw(rng, min(rows, size - start))
        parts.append(largest(psi, k + 1))
    return np.concatenate(parts), size


def _worst(
    tail: GumbelTails | ParetoTails,
    method: Method,
    n: int,
    taus: Sequence[float],
    confidence: float,
    rng: np.random.Generator,
) -> Worst:
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, median, high = np.quantile(p_of(tail.worst(rng, n)), [ends[0], 0.5, ends[1]])
    chances = [_exceeds(tail.log_survival(float(psi_of(tau))), n) for tau in taus]
    between = [np.quantile(one, ends) for one in chances]
    return Worst(
        queries=n,
        method=method,
        median=float(median),
        interval=(float(low), float(high)),
        exceeds=tuple(float(one.mean()) for one in chances),
        exceeds_interval=tuple((float(low), float(high)) for low, high in between),
    )


def _exceeds(log_survival: FloatArray, n: int) -> FloatArray:
    """1 - (1 - S)^n."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(n * np.log1p(-np.exp(log_survival))))


def _published(
    fit: GumbelFit, n: int, k: int, m: int, rng: np.random.Generator
) -> PublishedForecast:
    at = float(np.median(fit.quantile(n)))
    bias = finite_k_bias(rng, k=k, m=m, n=n) * float(np.median(fit.scale))
    # log10 p = -exp(-psi) / ln 10
    before, after = -np.exp(-(at - bias)), -np.exp(-at)
    return PublishedForecast(
        queries=n, worst=float(p_of(at)), finite_k_bias=float((after - before) / np.log(10))
    )


def _resolved_top(queries: Queries, k: int) -> float:
    """Share of resolved ones among the k queries that may be largest, by their upper ends."""
    order = np.argsort(-np.where(queries.resolved, queries.p, queries.high / 2), kind="stable")[:k]
    return float(queries.resolved[order].mean())


def _warnings(
    queries: Queries,
    ns: Sequence[int],
    resolved: float,
    gap: float,
    bend: float,
    forecasts: Sequence[Worst],
) -> list[str]:
    m = len(queries)
    found = []
    if m < FEW_QUERIES:
        found.append(f"few queries: {m} evaluated, {FEW_QUERIES} make a tail")
    unresolved = int((~queries.resolved).sum())
    if 2 * unresolved > m:
        found.append(
            f"{unresolved:,} of {m:,} queries are not resolved: the tail rests on the others"
        )
    if resolved < 0.8:
        found.append(
            f"only {100 * resolved:.0f}% of the largest are resolved: draw more from each query"
        )
    if gap < STRAIGHT:
        found.append(
            f"the tail has a gap (chance {gap:.2g} if it were log-linear): a second mode of "
            "riskier queries, which the fit does not describe"
        )
    if bend < STRAIGHT:
        found.append(
            f"the tail bends (chance {bend:.2g} if it were log-linear): forecasts far out are "
            "doubtful"
        )
    first, second = (
        np.array([one.median for one in forecasts if one.method == method])
        for method in ("gumbel", "pareto")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(np.log10(first) - np.log10(second))
    if ns and not np.nanmax(apart, initial=0.0) <= _TAIL_AGREES:
        found.append("the two tails differ by more than a factor of 10")
    if any(n > FARTHEST * m for n in ns):
        found.append(f"beyond {FARTHEST:,} times the evaluated queries: not tested by anything")
    return found
