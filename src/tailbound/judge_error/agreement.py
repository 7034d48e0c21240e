"""How far a judge's verdicts agree with labels, for all draws and not for the sample alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.judge_error.two_phase import SIMULATED, Stratum, high_end, low_end, unsafe_draws

Counts = NDArray[np.float64]
_Of = Callable[[Counts, Counts, int, int], Counts]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number about the draws on record; `estimate` is None where it is not defined."""

    estimate: float | None
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class JudgeErrors:
    """The judge against the labels; numbers of draws are estimates for all draws on record.

    `caught` unsafe draws were judged unsafe, `missed` ones safe; `false_alarms` are safe draws that
    were judged unsafe. All are None where a stratum has draws and no label.
    """

    caught: float | None
    missed: float | None
    false_alarms: float | None
    rightly_safe: float | None
    sensitivity: Measure
    specificity: Measure
    precision: Measure
    kappa: Measure


def judge_errors(
    positive: Sequence[Stratum],
    negative: Sequence[Stratum],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> JudgeErrors:
    r"""Sensitivity, specificity, precision and Cohen's kappa of a judge over its draws on record.

    `positive` are strata of draws that it called unsafe, `negative` of those that it called safe.
    With N_1 and N_0 draws, of which M_1 and M_0 are truly unsafe, both estimated by sums of
    N_h k_h / n_h,

        sensitivity = M_1 / (M_1 + M_0),   precision = M_1 / N_1,
        specificity = (N_0 - M_0) / (N_0 - M_0 + N_1 - M_1),
        kappa = 2 (M_1 N_0 - N_1 M_0) / (N_1 N + (M_1 + M_0) (N_0 - N_1)).

    All four rise with M_1 and fall with M_0 (precision rests on M_1 alone). So the lower ends are
    quantiles with the lower limits of M_1 and the upper ones of M_0, and the upper ends the other
    way round (`prevalence`). Raises `UsageError` for a confidence outside (0, 1).

    Sources: Cohen (1960), "A coefficient of agreement for nominal scales"; Fay, Proschan and
    Brittain (2015) on melding.

    >>> every = judge_errors([Stratum(draws=10, labelled=10, unsafe=8)],
    ...                      [Stratum(draws=90, labelled=90, unsafe=2)],
    ...                      rng=np.random.default_rng(0))
    >>> round(every.kappa.estimate, 4), every.sensitivity.interval
    (0.7778, (0.8, 0.8))
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    tail = (1 - confidence) / 2
    n1, n0 = (sum(one.draws for one in strata) for strata in (positive, negative))
    m1, m0 = _estimate(positive), _estimate(negative)
    limits = {
        (said, upper): unsafe_draws(strata, upper=upper, rng=rng, size=simulated).astype(float)
        for said, strata in ((1, positive), (0, negative))
        for upper in (False, True)
    }

    def measure(of: _Of, lowest: float) -> Measure:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = None
            if m1 is not None and m0 is not None:
                found = float(of(np.array([m1]), np.array([m0]), n1, n0)[0])
            lower = of(limits[1, False], limits[0, True], n1, n0)
            upper = of(limits[1, True], limits[0, False], n1, n0)
        lower = np.where(np.isnan(lower), lowest, lower)
        return Measure(
            estimate=None if found is None or np.isnan(found) else found,
            interval=(low_end(lower, tail), high_end(upper, tail)),
        )

    known = m1 is not None and m0 is not None
    return JudgeErrors(
        caught=m1 if known else None,
        missed=m0 if known else None,
        false_alarms=n1 - m1 if known and m1 is not None else None,
        rightly_safe=n0 - m0 if known and m0 is not None else None,
        sensitivity=measure(_sensitivity, 0.0),
        specificity=measure(_specificity, 0.0),
        precision=measure(_precision, 0.0),
        kappa=measure(_kappa, -1.0),
    )


def _estimate(strata: Sequence[Stratum]) -> float | None:
    """Unsafe draws in all strata; None where one of them has draws and no label."""
    some = [one for one in strata if one.draws]
    if not all(one.labelled for one in some):
        return None
    return float(sum(one.draws * one.unsafe / one.labelled for one in some))


def _sensitivity(m1: Counts, m0: Counts, n1: int, n0: int) -> Counts:
    return m1 / (m1 + m0)


def _specificity(m1: Counts, m0: Counts, n1: int, n0: int) -> Counts:
    return (n0 - m0) / (n0 - m0 + n1 - m1)


def _precision(m1: Counts, m0: Counts, n1: int, n0: int) -> Counts:
    return m1 / np.float64(n1)


def _kappa(m1: Counts, m0: Counts, n1: int, n0: int) -> Counts:
    return 2 * (m1 * n0 - n1 * m0) / (n1 * (n1 + n0) + (m1 + m0) * (n0 - n1))
