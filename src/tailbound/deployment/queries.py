"""Estimated probabilities of a set of queries, checked, and how much each of them is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError

FloatArray = NDArray[np.float64]
_COUNTS = np.concatenate([[0.0], np.geomspace(0.01, 1e9, 2_000)])


@dataclass(frozen=True, eq=False, kw_only=True)
class Queries:
    """m queries, each with an estimate of P(unsafe) and its interval; all arrays (m,).

    `low` and `high` are the ends of two-sided intervals at `confidence`, equal to `p` where it is
    known exactly. A query that is not `resolved` says only that its p is below about `high`.
    """

    p: FloatArray
    low: FloatArray
    high: FloatArray
    resolved: NDArray[np.bool_]
    confidence: float

    def __len__(self) -> int:
        return self.p.size

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Where p is known exactly."""
        return np.asarray(self.low == self.high)

    def take(self, rows: NDArray[np.intp]) -> Queries:
        """The named rows, in that order."""
        return Queries(
            p=self.p[rows],
            low=self.low[rows],
            high=self.high[rows],
            resolved=self.resolved[rows],
            confidence=self.confidence,
        )


def queries_of(
    p: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    *,
    resolved: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Queries:
    """The queries of estimates `p` with intervals [`low`, `high`], which default to `p` itself.

    Resolved, by default, is a query whose interval excludes 0, or that is known exactly. Raises
    `UsageError` for arrays of different shapes, for values that are not probabilities, for an
    interval without its p, for no query at all, and for a confidence outside (0, 1).

    >>> len(queries_of([0.1, 0.0], [0.05, 0.0], [0.2, 0.01]))
    2
    """
    point = np.atleast_1d(np.asarray(p, dtype=np.float64))
    lower = point if low is None else np.atleast_1d(np.asarray(low, dtype=np.float64))
    upper = point if high is None else np.atleast_1d(np.asarray(high, dtype=np.float64))
    if not point.size or point.ndim > 1:
        raise UsageError("a forecast needs a list of queries, and this has none")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence:g}")
    if not point.shape == lower.shape == upper.shape:
        raise UsageError("every p needs its low and its high: give arrays of one length")
    for name, values in (("p", point), ("low", lower), ("high", upper)):
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if wrong.size:
            row = int(wrong[0])
            raise UsageError(
                f"{name} of query {row + 1} is {values[row]:g}: give a probability in [0, 1]"
            )
    wrong = np.flatnonzero((lower > point) | (point > upper))
    if wrong.size:
        row = int(wrong[0])
        raise UsageError(
            f"p of query {row + 1} is {point[row]:g}, outside of its interval "
            f"[{lower[row]:g}, {upper[row]:g}]"
        )
    if resolved is None:
        fine = (lower > 0) | (lower == upper)
    else:
        fine = np.broadcast_to(np.asarray(resolved, dtype=np.bool_), point.shape)
    return Queries(p=point, low=lower, high=upper, resolved=fine, confidence=confidence)


def effective_counts(queries: Queries) -> tuple[FloatArray, FloatArray]:
    """(events, draws), each (m,): plain draws that would have given about these intervals.

    The events c solve log-odds(high) - log-odds(low) = log U(c) - log L(c), with [L, U] the exact
    interval of a Poisson mean (Garwood 1936), and events = c / (1 - p), draws = events / p. Where
    an end is 0 or 1 the other one alone decides; where p is 0 (or not resolved), draws =
    log(tail) / log(1 - high), without events. Infinite where p is known exactly.

    >>> from tailbound.intervals import clopper_pearson
    >>> low, high = clopper_pearson([5, 0], [1_000, 1_000])
    >>> events, draws = effective_counts(queries_of([0.005, 0.0], low, high))
    >>> [round(float(n), 1) for n in events], [round(float(n), -1) for n in draws]
    ([5.0, 0.0], [1000.0, 1000.0])
    """
    from scipy.special import logit

    tail = (1 - queries.confidence) / 2
    p, low, high = queries.p, queries.low, queries.high
    events, draws = np.full(p.shape, np.inf), np.full(p.shape, np.inf)
    uncertain = ~queries.exact
    none = uncertain & ((p <= 0) | ~queries.resolved)
    every = uncertain & (p >= 1) & ~none
    some = uncertain & ~none & ~every
    with np.errstate(divide="ignore"):
        events[none] = 0.0
        draws[none] = np.where(high[none] < 1, np.log(tail) / np.log1p(-high[none]), 0.0)
        draws[every] = np.where(low[every] > 0, np.log(tail) / np.log(low[every]), 0.0)
        events[every] = draws[every]
    if some.any():
        upper, lower = _garwood(tail)
        odds = logit(p[some])
        above, below = logit(high[some]) - odds, odds - logit(low[some])
        width = np.where(np.isfinite(above), above, 0) + np.where(np.isfinite(below), below, 0)
        both = np.isfinite(above) & np.isfinite(below)
        only = np.where(np.isfinite(above), _events(upper, above), _events(lower, below))
        found = np.where(both, _events(upper + lower, width), only)
        events[some] = found / (1 - p[some])
        draws[some] = events[some] / p[some]
    return events, draws


def _garwood(tail: float) -> tuple[FloatArray, FloatArray]:
    """log U(c) / c and log c / L(c) at the counts of `_COUNTS`."""
    from scipy.special import gammaincinv

    counts = _COUNTS[1:]
    upper = np.log(gammaincinv(counts + 1, 1 - tail) / counts)
    # for less than about .1 events the lower end leaves the range of floats
    lower = -np.log(np.maximum(gammaincinv(counts, tail), 1e-290) / counts)
    return upper, lower


def _events(widths: FloatArray, width: FloatArray) -> FloatArray:
    """Where widths, falling in the counts, reach `width`."""
    finite = np.where(np.isfinite(width), width, 0.0)
    return np.asarray(np.interp(-finite, -widths, _COUNTS[1:]))
