"""The difference of two corrected rates, each from its own draws and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.judge_error.two_phase import SIMULATED, Stratum, low_end, rate_limits
from tailbound.judge_error.weighted import WeightedStratum, chance_limits

Strata = Sequence[Stratum] | Sequence[WeightedStratum]


@dataclass(frozen=True, kw_only=True)
class Change:
    """Limits of B - A and of B / A; the upper limit of the ratio is None where A may be 0."""

    difference: tuple[float, float]
    ratio: tuple[float, float | None]


def corrected_change(
    a: Strata,
    b: Strata,
    *,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> Change:
    r"""How far rate B is from rate A, both corrected by labels (`prevalence`).

    With simulated lower limits L and upper limits U of each rate, the two runs independent,

        quantiles tail of L_B - U_A and 1 - tail of U_B - L_A,

    and the same of quotients: melding, which for two binomial rates gives limits that agree with
    Fisher's exact test. It is for weighted strata as for plain ones, and checked by simulation.
    Raises `UsageError` as `prevalence` does.

    Source: Fay, Proschan and Brittain (2015), "Combining one-sample confidence procedures for
    inference in the two-sample case", Biometrics 71.

    >>> one = [Stratum(draws=1_000, labelled=1_000, unsafe=10)]
    >>> other = [Stratum(draws=1_000, labelled=1_000, unsafe=40)]
    >>> found = corrected_change(one, other, rng=np.random.default_rng(0))
    >>> 0.01 < found.difference[0] < 0.03 < found.difference[1] < 0.05, found.ratio[0] > 1.9
    (True, True)
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    low_a, high_a, low_b, high_b = (
        _limits(strata, upper, rng, simulated) for strata in (a, b) for upper in (False, True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        least, most = low_b / high_a, high_b / low_a
    most = np.where(np.isnan(most), np.inf, most)
    top = float(np.quantile(most, 1 - tail, method="higher"))
    return Change(
        difference=(
            float(np.quantile(low_b - high_a, tail, method="lower")),
            float(np.quantile(high_b - low_a, 1 - tail, method="higher")),
        ),
        ratio=(low_end(least, tail), top if np.isfinite(top) else None),
    )


def _limits(
    strata: Strata, upper: bool, rng: np.random.Generator, size: int
) -> NDArray[np.float64]:
    weighted = [one for one in strata if isinstance(one, WeightedStratum)]
    if weighted:
        return np.minimum(chance_limits(weighted, upper=upper, rng=rng, size=size), 1.0)
    plain = [one for one in strata if isinstance(one, Stratum)]
    return rate_limits(plain, upper=upper, rng=rng, size=size)
