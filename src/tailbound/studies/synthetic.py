r"""The synthetic population of Davidov et al. (arXiv 2506.13593), where every risk is known.

Nine tenths of the prompts have risks p log-spaced from 1e-3 to 1e-2, one tenth from 1e-5 to 1e-4.
The ten features of a prompt are the quantiles of Geometric(p) at levels .1 to .9, to the power 1/4,
over their mean in the population, and normal noise of standard deviation .1.

With T ~ Geometric(p), the coverage of a bound L is exact: P(T >= L) = (1 - p)^(L - 1). The paper
reports P(T > L) = (1 - p)^L, which counts T = L as a miss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival import quantile

FEATURES = 10
NOISE = 0.1
_USUAL, _SAFE = (-3.0, -2.0), (-5.0, -4.0)
"""Ends of log10 p: of nine tenths of the prompts, and of the others."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SyntheticPopulation:
    """Prompts with known risks, shape (n,), and what a predictor sees, shape (n, 10)."""

    risks: NDArray[np.float64]
    features: NDArray[np.float64]


def synthetic_population(prompts: int, rng: np.random.Generator) -> SyntheticPopulation:
    """The published population of so many `prompts`, in random order; `rng` gives the noise.

    Raises `UsageError` for fewer than 10 prompts.

    >>> found = synthetic_population(1000, np.random.default_rng(0))
    >>> found.features.shape, int((found.risks < 5e-4).sum())
    ((1000, 10), 100)
    """
    if prompts < 10:
        raise UsageError(f"the population needs at least 10 prompts, not {prompts}")
    usual = prompts * 9 // 10
    risks = 10 ** np.concatenate(
        [np.linspace(*_USUAL, usual), np.linspace(*_SAFE, prompts - usual)]
    )
    risks = rng.permutation(risks)
    levels = np.linspace(0.1, 0.9, FEATURES)
    times = quantile(risks[:, None], levels[None, :]).astype(np.float64) ** 0.25
    features = times / times.mean() + rng.normal(0.0, NOISE, size=times.shape)
    return SyntheticPopulation(risks=risks, features=features)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactCoverage:
    """P(T >= L), and P(T > L), which the paper reports; means over prompts."""

    at_least: float
    beyond: float


def exact_coverage(risks: ArrayLike, bounds: ArrayLike) -> ExactCoverage:
    """Coverage of `bounds`, shape (n,) and at least 1, for prompts of known `risks` in (0, 1].

    Raises `UsageError` where shapes differ or there are no prompts.

    >>> found = exact_coverage([0.1, 0.2], [1, 3])
    >>> round(found.at_least, 3), round(found.beyond, 3)
    (0.82, 0.706)
    """
    p = np.asarray(risks, dtype=np.float64)
    limit = np.asarray(bounds, dtype=np.float64)
    if p.shape != limit.shape or p.ndim != 1 or p.size == 0:
        raise UsageError(f"risks {p.shape} and bounds {limit.shape} must be vectors of one length")
    with np.errstate(divide="ignore"):
        log_safe = np.maximum(np.log1p(-p), -1e300)  # finite at p = 1: L = 1 is covered there
    return ExactCoverage(
        at_least=float(np.exp((limit - 1) * log_safe).mean()),
        beyond=float(np.exp(limit * log_safe).mean()),
    )
