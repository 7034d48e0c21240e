"""How much the wording of a query matters: spread within and between groups of rewordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.deployment.queries import Queries
from tailbound.errors import UsageError

FloatArray = NDArray[np.float64]
BOOTSTRAP = 2_000
LEAST_GROUPS = 2


@dataclass(frozen=True, kw_only=True)
class GroupSpread:
    """The rewordings of one query, on the scale of log10 p.

    `worst` and `best` are the places of the resolved wordings with the largest and smallest p, and
    `spread` is the difference of their log10, which noise makes too large and wordings that are not
    resolved too small. `sd` is the standard deviation of log10 p with the noise of the estimates
    removed (0 where noise explains it all), None for fewer than two resolved wordings.
    """

    group: str
    wordings: int
    unresolved: int
    worst: int | None
    best: int | None
    spread: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class VarianceComponents:
    """Variances of log10 p: `between` queries, `within` (wordings of a query), `noise` (estimates).

    `share` is within / (between + within): how much of what differs is the wording. Intervals are
    percentiles of a bootstrap over groups, at `confidence`.
    """

    groups: int
    wordings: int
    between: float
    between_interval: tuple[float, float]
    within: float
    within_interval: tuple[float, float]
    noise: float
    share: float | None
    share_interval: tuple[float, float] | None
    confidence: float


def log10_errors(queries: Queries) -> FloatArray:
    """Standard errors of log10 p from the widths of the intervals, shape (m,); 0 where p is known.

    NaN for a query that is not resolved.

    >>> from tailbound.deployment import queries_of
    >>> known = queries_of([0.01, 0.01], [0.005, 0.01], [0.02, 0.01])
    >>> log10_errors(known).round(3).tolist()
    [0.154, 0.0]
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + queries.confidence) / 2))
    fine = queries.resolved & (queries.low > 0)
    found = np.full(len(queries), np.nan)
    low, high = np.log10(queries.low[fine]), np.log10(queries.high[fine])
    found[fine] = (high - low) / (2 * z)
    return found


def spread_by_group(queries: Queries, groups: Sequence[str]) -> tuple[GroupSpread, ...]:
    """The spread of each group, in the order in which the groups first occur.

    Raises `UsageError` unless there is a group for each query.

    >>> from tailbound.deployment import queries_of
    >>> (found,) = spread_by_group(queries_of([0.1, 0.001, 0.01]), ["q", "q", "q"])
    >>> found.worst, found.best, round(found.spread, 6), round(found.sd, 6)
    (0, 1, 2.0, 1.0)
    """
    if len(groups) != len(queries):
        raise UsageError("give the group of each query")
    errors = log10_errors(queries)
    found = []
    names = np.asarray(groups, dtype=object)
    for name in dict.fromkeys(groups):
        places = np.flatnonzero(names == name)
        known = places[np.isfinite(errors[places])]
        x = np.log10(queries.p[known])
        sd = None
        if known.size >= 2:
            sd = float(np.sqrt(max(0.0, x.var(ddof=1) - float((errors[known] ** 2).mean()))))
        found.append(
            GroupSpread(
                group=str(name),
                wordings=int(places.size),
                unresolved=int(places.size - known.size),
                worst=int(known[x.argmax()]) if known.size else None,
                best=int(known[x.argmin()]) if known.size else None,
                spread=float(x.max() - x.min()) if known.size else None,
                sd=sd,
            )
        )
    return tuple(found)


def variance_components(
    queries: Queries, groups: Sequence[str], *, seed: int = 0, repeats: int = BOOTSTRAP
) -> VarianceComponents:
    r"""Between- and within-group variance of log10 p, without the noise of the estimates.

    With x_gi = log10 p_gi of the resolved wordings i of query g, and e_gi their standard errors,
    the analysis of variance of unbalanced groups (n_g wordings, N in all, G groups):

        within  = (sum (x_gi - mean_g)^2 - sum e_gi^2 (1 - 1 / n_g)) / (N - G)
        between = (sum n_g (mean_g - mean)^2 - (G - 1) within - sum e_gi^2 (1 / n_g - 1 / N))
                  / (N - sum n_g^2 / N),

    each unbiased for known errors before it is cut at 0. Raises `UsageError` for fewer than two
    groups with a resolved wording, or none with two.

    Source: Searle, Casella and McCulloch (1992), "Variance Components", section 3.6 (unbalanced
    one-way classification), with the noise removed.

    >>> from tailbound.deployment import queries_of
    >>> found = variance_components(queries_of([0.1, 0.01, 0.001, 0.0001]), ["a", "a", "b", "b"])
    >>> found.within, found.between
    (0.5, 1.75)
    """
    if len(groups) != len(queries):
        raise UsageError("give the group of each query")
    errors = log10_errors(queries)
    known = np.isfinite(errors)
    names, places = np.unique(np.asarray(groups, dtype=object)[known], return_inverse=True)
    sizes = np.bincount(places, minlength=len(names)).astype(np.float64)
    if len(names) < LEAST_GROUPS or sizes.max(initial=0) < 2:
        raise UsageError(
            "the variance between and within queries needs two groups with a resolved wording, and "
            "one with two of them"
        )
    x, noise = np.log10(queries.p[known]), errors[known] ** 2
    means = np.bincount(places, x) / sizes
    parts = _Parts(
        sizes=sizes,
        means=means,
        squares=np.bincount(places, (x - means[places]) ** 2).astype(np.float64),
        noise=np.bincount(places, noise).astype(np.float64),
    )
    within, between = (float(one[0]) for one in parts.components(np.ones((1, len(names)))))
    counts = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=repeats
    )
    counts = counts[(counts > 0).sum(axis=1) >= LEAST_GROUPS]
    usable = (counts * (sizes - 1)).sum(axis=1) > 0
    drawn = [np.maximum(one, 0.0) for one in parts.components(counts[usable].astype(np.float64))]
    tail = 50 * (1 - queries.confidence)

    def ends(values: FloatArray) -> tuple[float, float]:
        low, high = np.percentile(values, [tail, 100 - tail])
        return float(low), float(high)

    total = drawn[0] + drawn[1]
    shares = drawn[0][total > 0] / total[total > 0]
    within, between = max(within, 0.0), max(between, 0.0)
    return VarianceComponents(
        groups=len(names),
        wordings=int(known.sum()),
        between=between,
        between_interval=ends(drawn[1]),
        within=within,
        within_interval=ends(drawn[0]),
        noise=float(noise.mean()),
        share=within / (within + between) if within + between > 0 else None,
        share_interval=ends(shares) if shares.size else None,
        confidence=queries.confidence,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Parts:
    """What the analysis of variance needs of each of G groups, shape (G,)."""

    sizes: FloatArray
    means: FloatArray
    squares: FloatArray
    noise: FloatArray

    def components(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(within, between) of each row of `counts` (R, G): how often each group occurs."""
        n, groups = counts @ self.sizes, counts.sum(axis=1)
        noise_within = counts @ (self.noise * (1 - 1 / self.sizes))
        within = (counts @ self.squares - noise_within) / (n - groups)
        mean = counts @ (self.sizes * self.means) / n
        squares = counts @ (self.sizes * self.means**2) - n * mean**2
        noise_between = counts @ (self.noise / self.sizes) - counts @ self.noise / n
        spread = n - counts @ self.sizes**2 / n
        return within, (squares - (groups - 1) * within - noise_between) / spread
