"""The two losses as one binomial log-likelihood, k events in n draws with log-odds eta.

binomial    k unsafe of n draws, as counted (the published "proportion" loss).
geometric   time T to the first unsafe draw, censored at n (the published "survival" loss):
            log p + (T - 1) log(1 - p), or n log(1 - p) where there was none. That is the binomial
            log-likelihood of 1 event in T draws, or 0 in n. The order in which k unsafe draws came
            among n says nothing about p; averaged over it, T is (n + 1) / (k + 1).

The geometric loss forgets what came after the first unsafe draw; it gives frequent offenders no
more weight than a first event deserves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_expit, xlogy

Array = NDArray[np.float64]


def geometric_counts(events: Array, draws: Array) -> tuple[Array, Array]:
    """(events, draws) of the geometric loss, from k unsafe in a fixed number n of draws."""
    seen = (events > 0).astype(np.float64)
    return seen, np.where(events > 0, (draws + 1) / (events + 1), draws)


def pooled_rate(events: Array, draws: Array) -> float:
    """The rate over all prompts with half an event added (Jeffreys): never 0 and never 1."""
    return float((events.sum() + 0.5) / (draws.sum() + 1))


def log_likelihood(log_odds: Array, events: Array, draws: Array) -> float:
    """Summed over prompts, binomial coefficients left out."""
    inside = events * log_expit(log_odds) + (draws - events) * log_expit(-log_odds)
    return float(inside.sum())


def deviance(log_odds: Array, events: Array, draws: Array) -> float:
    """2 (saturated log-likelihood - log-likelihood) >= 0: 0 where each rate is the one observed."""
    misses = draws - events
    total = np.where(draws > 0, draws, 1.0)
    saturated = xlogy(events, events / total) + xlogy(misses, misses / total)
    return 2 * (float(saturated.sum()) - log_likelihood(log_odds, events, draws))


def deviances(log_odds: Array, events: Array, draws: Array) -> Array:
    """The share of each prompt in `deviance`, shape (prompts,)."""
    misses = draws - events
    total = np.where(draws > 0, draws, 1.0)
    lost = xlogy(events, events / total) - events * log_expit(log_odds)
    lost += xlogy(misses, misses / total) - misses * log_expit(-log_odds)
    return np.asarray(2 * lost, dtype=np.float64)


def log_odds(p: float) -> float:
    """log(p / (1 - p))."""
    return float(np.log(p) - np.log1p(-p))
