"""Back-test: forecast the worst of most of the queries from few of them, over and over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailbound.deployment.deconvolution import deconvolve
from tailbound.deployment.queries import Queries
from tailbound.deployment.tails import largest, pooled_tails
from tailbound.deployment.worst import LEAST_TOP, usual_top
from tailbound.errors import UsageError

SHARE = 0.3
SPLITS = 100
LEAST = 34
"""Queries of which a share of .3 has 5 for a tail."""
_DRAWS = 200


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """Errors log10(forecast / observed) of the worst query over `splits` random splits.

    `fitted` queries forecast the largest p of `forecast` others. The splits share their queries, so
    they are not independent: they show what is wrong with the fit on these data, not a coverage.
    """

    splits: int
    fitted: int
    forecast: int
    median_error: float
    median_absolute_error: float
    within_factor_10: float


def backtest_worst(queries: Queries, *, splits: int = SPLITS, seed: int = 0) -> Backtest:
    """Fit 30% of the queries, forecast the largest p of the other 70%, `splits` times.

    The true p of each split are drawn from the posteriors of all queries, the same on both sides:
    the largest of noisy numbers would be too large. Raises `UsageError` for fewer than 34 queries.

    Source: Jones et al. (2025), arXiv 2502.16797, section 4 (held-out queries).

    >>> from tailbound.deployment import queries_of
    >>> known = np.exp(-np.exp(-np.random.default_rng(0).gumbel(-2.5, 0.1, 400)))
    >>> backtest_worst(queries_of(known), splits=20).median_absolute_error < 1
    True
    """
    m = len(queries)
    if m < LEAST:
        raise UsageError(f"a back-test takes at least {LEAST} queries, not {m}")
    rng = np.random.default_rng([seed, 3_070])
    fitted = round(SHARE * m)
    k = max(usual_top(fitted), LEAST_TOP)
    if int((queries.high > 0).sum()) < m - fitted + k:
        raise UsageError("a back-test takes queries with a probability above 0 in every split")
    posteriors = deconvolve(queries)
    psi_of_splits = posteriors.draw(rng, splits)
    errors = np.empty(splits)
    for split in range(splits):
        psi = psi_of_splits[split][rng.permutation(m)]
        top = np.broadcast_to(largest(psi[:fitted], k), (_DRAWS, k))
        forecast = np.median(pooled_tails(top, rng, k=k, m=fitted).worst(rng, m - fitted))
        # log10 p = -exp(-psi) / ln 10
        errors[split] = (np.exp(-psi[fitted:].max()) - np.exp(-forecast)) / np.log(10)
    return Backtest(
        splits=splits,
        fitted=fitted,
        forecast=m - fitted,
        median_error=float(np.median(errors)),
        median_absolute_error=float(np.median(np.abs(errors))),
        within_factor_10=float(np.mean(np.abs(errors) <= 1)),
    )
