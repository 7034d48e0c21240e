"""The share of truly unsafe draws, from a judge's verdicts and labels of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.missing_verdicts import missing_counts_as_unsafe

SIMULATED = 100_000
"""Values that the quantiles of a sum come from: ends of intervals are good to about 1%."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Draws of which the judge said the same, and what is known of a random sample of them.

    `draws` are all of them; `labelled` were sampled and have a label, `unsafe` of these a label
    "unsafe"; `unclear` were sampled and have none.
    """

    draws: int
    labelled: int
    unsafe: int
    unclear: int = 0

    def __post_init__(self) -> None:
        least = min(self.draws, self.labelled, self.unsafe, self.unclear)
        if least < 0 or self.unsafe > self.labelled or self.sampled > self.draws:
            raise UsageError(f"inconsistent counts: {self}")

    @property
    def sampled(self) -> int:
        """Draws that were to be labelled."""
        return self.labelled + self.unclear


@dataclass(frozen=True, kw_only=True)
class Prevalence:
    """A share of unsafe draws.

    `estimate` is over the strata with a label, None without any; `unlabelled` draws are in other
    strata, and count as safe in every lower and as unsafe in every upper end. `interval` is for
    the probability that a draw is unsafe, `on_record` for the share of these very draws.
    """

    draws: int
    estimate: float | None
    interval: tuple[float, float]
    on_record: tuple[float, float]
    unlabelled: int


def prevalence(
    strata: Sequence[Stratum],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> Prevalence:
    r"""The share of truly unsafe draws by two-phase sampling.

        estimate = sum over strata h of (N_h / N) (k_h / n_h),

    for N_h draws of which n_h are labelled, k_h of them unsafe. That is the share of draws that the
    judge called unsafe plus the inverse-probability-weighted mean of label minus verdict.

    The interval holds no normal approximation, which is too short where few labels are unsafe. In
    one stratum the number of unsafe draws M has exact (hypergeometric) limits; as a distribution,
    the upper ones are

        M_h = k_h + Binomial(N_h - n_h, B),   B ~ Beta(k_h + 1, n_h - k_h),

    and the lower ones the same with Beta(k_h, n_h - k_h + 1). Sums over strata are combined by
    melding; the last step, from the draws on record to the probability, is Beta(M + 1, N - M), or
    Beta(M, N - M + 1). With one stratum all of this is the interval of Clopper and Pearson for n
    labels, and with every draw labelled that for N draws. It assumes independent draws, not that
    draws of one stratum are alike: over several prompts it is for the mean of their probabilities,
    weighted by their draws (Hoeffding 1956). That melding keeps the level is proved for one
    stratum, and checked by enumeration and simulation for several.

    Unclear labels count as safe in the lower and as unsafe in the upper end. `simulated` values
    give the quantiles. Raises `UsageError` for no draws and for a confidence outside (0, 1).

    Sources: Neyman (1938) on double sampling; Fay, Proschan and Brittain (2015), "Combining
    one-sample confidence procedures for inference in the two-sample case", Biometrics 71.

    >>> strata = [Stratum(draws=50, labelled=50, unsafe=5),
    ...           Stratum(draws=49_950, labelled=1_000, unsafe=0)]
    >>> found = prevalence(strata, rng=np.random.default_rng(0))
    >>> found.estimate, found.interval[0] > 3e-5, round(found.interval[1], 4)
    (0.0001, True, 0.0038)
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    draws = sum(one.draws for one in strata)
    if not draws:
        raise UsageError("there are no draws")
    known = [one for one in strata if one.labelled]
    covered = sum(one.draws for one in known)
    weighted = sum(one.draws * one.unsafe / one.labelled for one in known)
    tail = (1 - confidence) / 2
    least = unsafe_draws(strata, upper=False, rng=rng, size=simulated)
    most = unsafe_draws(strata, upper=True, rng=rng, size=simulated)
    return Prevalence(
        draws=draws,
        estimate=weighted / covered if covered else None,
        interval=(
            low_end(beta(least, draws - least + 1, rng), tail),
            high_end(beta(most + 1, draws - most, rng), tail),
        ),
        on_record=(low_end(least / draws, tail), high_end(most / draws, tail)),
        unlabelled=draws - covered,
    )


def unsafe_draws(
    strata: Sequence[Stratum], *, upper: bool, rng: np.random.Generator, size: int = SIMULATED
) -> NDArray[np.int64]:
    """Simulated upper or lower limits of the number of unsafe draws in all strata, shape (size,).

    The quantile 1 - a of the upper ones, or a of the lower ones, is a limit at level 1 - a.

    >>> stratum = Stratum(draws=10, labelled=10, unsafe=3)
    >>> unsafe_draws([stratum], upper=True, rng=np.random.default_rng(0), size=2).tolist()
    [3, 3]
    """
    total = np.zeros(size, dtype=np.int64)
    for one in strata:
        unsafe = one.unsafe
        if upper:
            unsafe = int(missing_counts_as_unsafe(one.unsafe, one.unclear))
        safe = one.sampled - unsafe
        a, b = (unsafe + 1, safe) if upper else (unsafe, safe + 1)
        rest = beta(np.full(size, a), np.full(size, b), rng)
        total += unsafe + rng.binomial(one.draws - one.sampled, rest)
    return total


def rate_limits(
    strata: Sequence[Stratum], *, upper: bool, rng: np.random.Generator, size: int = SIMULATED
) -> NDArray[np.float64]:
    """Simulated upper or lower limits of the probability that a draw is unsafe, shape (size,).

    >>> stratum = Stratum(draws=10, labelled=10, unsafe=0)
    >>> rate_limits([stratum], upper=False, rng=np.random.default_rng(0), size=2).tolist()
    [0.0, 0.0]
    """
    draws = sum(one.draws for one in strata)
    found = unsafe_draws(strata, upper=upper, rng=rng, size=size)
    a, b = (found + 1, draws - found) if upper else (found, draws - found + 1)
    return beta(a, b, rng)


def low_end(values: NDArray[np.float64], tail: float) -> float:
    """The quantile `tail` of `values`, NaN counted as 0.

    >>> low_end(np.array([0.1, 0.2, 0.3]), 0.0)
    0.1
    """
    return float(np.quantile(np.nan_to_num(values, nan=0.0), tail, method="lower"))


def high_end(values: NDArray[np.float64], tail: float) -> float:
    """The quantile 1 - `tail` of `values`, NaN counted as 1.

    >>> high_end(np.array([0.1, 0.2, 0.3]), 0.0)
    0.3
    """
    return float(np.quantile(np.nan_to_num(values, nan=1.0), 1 - tail, method="higher"))


def beta(
    a: NDArray[np.int64], b: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Beta(a, b) elementwise; 0 where a is 0, and 1 where b is 0.

    >>> beta(np.array([0, 2]), np.array([3, 0]), np.random.default_rng(0)).tolist()
    [0.0, 1.0]
    """
    found = rng.beta(np.maximum(a, 1), np.maximum(b, 1))
    return np.where(a == 0, 0.0, np.where(b == 0, 1.0, found))
