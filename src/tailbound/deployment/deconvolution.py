r"""The distribution of true probabilities behind noisy ones, and draws of the true ones.

The largest of many noisy numbers are large partly by luck. With psi = -log(-log p), the density of
psi over queries is modelled as exp(natural cubic spline): beyond the outer knots its logarithm is
linear, which is the tail that forecasts assume. It is fitted to all intervals by penalised marginal
likelihood, each query seen through the binomial likelihood of its effective counts; queries without
events are left-censored by theirs. Given the fit, each query has a posterior of its own.

Source: Efron (2016), "Empirical Bayes deconvolution estimates", sections 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.deployment.queries import FloatArray, Queries, effective_counts

_GRID = 300
_PRECISE = 100.0
"""Effective events from which a query's own error, below 10%, is not shrunk."""
_PENALTY = 0.01
_MOST = 4_000
"""Queries that the density is fitted to; of more, evenly many from all over their range."""
_SMALLEST = 1e-12
_CERTAIN = 30.0
"""The log-odds that stand for p = 1."""


def psi_of(p: ArrayLike) -> FloatArray:
    """psi = -log(-log p), increasing in p; -inf for 0, inf for 1.

    >>> round(float(psi_of(np.exp(-1.0))), 6) + 0.0
    0.0
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(-np.log(np.asarray(p, dtype=np.float64))))


def p_of(psi: ArrayLike) -> FloatArray:
    """p = exp(-exp(-psi)), the inverse of `psi_of`.

    >>> round(float(p_of(psi_of(0.25))), 6)
    0.25
    """
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(-np.exp(-np.asarray(psi, dtype=np.float64))))


@dataclass(frozen=True, eq=False, kw_only=True)
class Posteriors:
    """What is known of the true p of each query.

    `cdf`, shape (m, G), is the posterior over the log-odds `grid`, shape (G,), of queries that are
    `shrunk`; others are normal in log-odds around `center` with `spread` (0: exact), both (m,).
    """

    grid: FloatArray
    cdf: FloatArray
    shrunk: NDArray[np.bool_]
    center: FloatArray
    spread: FloatArray

    def __len__(self) -> int:
        return self.center.size

    def draw(self, rng: np.random.Generator, size: int) -> FloatArray:
        """`size` draws of the true psi of every query, shape (size, m)."""
        found = np.empty((size, len(self)))
        rows = np.flatnonzero(~self.shrunk)
        noise = rng.standard_normal((size, rows.size))
        found[:, rows] = self.center[rows] + self.spread[rows] * noise
        for place, row in enumerate(np.flatnonzero(self.shrunk)):
            found[:, row] = np.interp(rng.random(size), self.cdf[place], self.grid)
        return _psi_of_log_odds(found)


def deconvolve(queries: Queries) -> Posteriors:
    """The posterior of every query's true p, under a density of psi fitted to all of them.

    Where every p is known exactly, the posteriors are these values.

    >>> from tailbound.deployment import queries_of
    >>> found = deconvolve(queries_of([0.1, 0.2])).draw(np.random.default_rng(0), 1)
    >>> [round(float(p), 6) for p in p_of(found)[0]]
    [0.1, 0.2]
    """
    from scipy.special import logit

    events, draws = effective_counts(queries)
    with np.errstate(divide="ignore", invalid="ignore"):
        center = np.minimum(logit(queries.p), _CERTAIN)
        spread = 1 / np.sqrt(events * (1 - queries.p))
    spread[queries.exact] = 0.0
    shrunk = events < _PRECISE
    grid = _grid(queries)
    if not shrunk.any():
        empty = np.empty((0, grid.size))
        return Posteriors(grid=grid, cdf=empty, shrunk=shrunk, center=center, spread=spread)
    log_density = _fit(grid, queries, events, draws)
    logs = _log_likelihood(grid, events[shrunk], draws[shrunk]) + log_density
    mass = np.exp(logs - logs.max(axis=1, keepdims=True))
    # from point to point by trapezoids, so that draws are spread between the points
    cdf = np.zeros_like(mass)
    cdf[:, 1:] = np.cumsum((mass[:, 1:] + mass[:, :-1]) / 2, axis=1)
    cdf /= cdf[:, -1:]
    return Posteriors(grid=grid, cdf=cdf, shrunk=shrunk, center=center, spread=spread)


def _grid(queries: Queries) -> FloatArray:
    from scipy.special import logit

    reach = np.where(queries.low > 0, queries.low, queries.high / 100)
    least = max(float(np.min(reach[reach > 0], initial=0.01)), _SMALLEST)
    return np.asarray(np.linspace(logit(least / 10), 9.0, _GRID))


def _psi_of_log_odds(t: FloatArray) -> FloatArray:
    """-log(log(1 + exp(-t))), which neither over- nor underflows."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.logaddexp(0.0, -t)))


def _log_likelihood(grid: FloatArray, events: FloatArray, draws: FloatArray) -> FloatArray:
    """log p^c (1 - p)^(n - c), shape (m, G)."""
    log_p, log_q = -np.logaddexp(0.0, -grid), -np.logaddexp(0.0, grid)
    rest = np.maximum(draws - events, 0.0)
    return np.asarray(events[:, None] * log_p + rest[:, None] * log_q)


def _fit(grid: FloatArray, queries: Queries, events: FloatArray, draws: FloatArray) -> FloatArray:
    """log density of log-odds on the grid, up to a constant."""
    from scipy.optimize import minimize

    order = np.argsort(queries.p, kind="stable")
    if order.size > _MOST:
        order = order[np.linspace(0, order.size - 1, _MOST).astype(np.intp)]
    # no narrower than the grid
    most = 1 / (grid[1] - grid[0]) ** 2
    c = np.minimum(events[order], most / np.maximum(1 - queries.p[order], 1e-6))
    n = np.where(events[order] > 0, c / np.maximum(queries.p[order], 1e-300), draws[order])
    logs = _log_likelihood(grid, c, n)
    likelihood = np.exp(logs - logs.max(axis=1, keepdims=True))
    psi = _psi_of_log_odds(grid)
    seen = np.where(queries.p[order] > 0, queries.p[order], queries.high[order] / 4)
    basis = _natural_spline(psi, np.quantile(psi_of(seen), [0.05, 0.35, 0.65, 0.9, 0.98]))
    basis = (basis - basis.mean(axis=0)) / basis.std(axis=0)
    offset = np.log(np.gradient(psi, grid))

    def objective(beta: FloatArray) -> tuple[float, FloatArray]:
        logs = basis @ beta + offset
        mass = np.exp(logs - logs.max())
        mass /= mass.sum()
        each = likelihood @ mass
        share = (likelihood / each[:, None]).sum(axis=0) * mass
        value = -np.log(each).sum() + _PENALTY * beta @ beta
        return float(value), -basis.T @ (share - each.size * mass) + 2 * _PENALTY * beta

    best = minimize(objective, np.zeros(basis.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(basis @ best.x + offset)


def _natural_spline(x: FloatArray, knots: FloatArray) -> FloatArray:
    """Basis of natural cubic splines without the constant: linear beyond the outer knots."""
    places = np.unique(np.round(knots, 6))
    if places.size < 3:
        return x[:, None]
    last, scale = places[-1], places[-1] - places[0]

    def part(knot: float) -> FloatArray:
        cubes = np.maximum(x - knot, 0) ** 3 - np.maximum(x - last, 0) ** 3
        return np.asarray(cubes / ((last - knot) * scale**2))

    return np.column_stack([x, *(part(knot) - part(places[-2]) for knot in places[:-2])])
