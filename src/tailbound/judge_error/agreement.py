"""How far a judge's verdicts agree with labels, for all draws and not for the sample alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.judge_error.two_phase import SIMULATED, Stratum, high_end, low_end, unsafe_draws
from tailbound.judge_error.weighted import WeightedStratum, unsafe_weight

Counts = NDArray[np.float64]
_Of = Callable[[Counts, Counts, float, float], Counts]


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
    return _errors(limits, (m1, m0), (n1, n0), tail)


def weighted_judge_errors(
    positive: Sequence[WeightedStratum],
    negative: Sequence[WeightedStratum],
    *,
    confidence: float = 0.95,
    rng: np.random.Generator,
    simulated: int = SIMULATED,
) -> JudgeErrors:
    """The same from weighted draws: over replies of the target, each draw by what it counts.

    Numbers of draws are then shares of the replies. Intervals are for the weighted draws on record.
    Raises `UsageError` for a confidence outside (0, 1).

    >>> def stratum(unsafe: float) -> WeightedStratum:
    ...     return WeightedStratum(draws=9, certain=0.5, certain_unsafe=unsafe, certain_unclear=0.0,
    ...                            squares=0.1, rest=0.0, picks=0, unsafe=0, unclear=0,
    ...                            of_pick=None, largest=0.1)
    >>> found = weighted_judge_errors([stratum(0.4)], [stratum(0.1)], rng=np.random.default_rng(0))
    >>> found.sensitivity.estimate, round(found.kappa.estimate, 3)
    (0.8, 0.6)
    """
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    both = (positive, negative)
    n1, n0 = (sum(one.weight for one in strata) for strata in both)
    m1, m0 = (_weighted_estimate(strata) for strata in both)
    limits = {
        (said, upper): unsafe_weight(strata, upper=upper, rng=rng, size=simulated)[0]
        for said, strata in ((1, positive), (0, negative))
        for upper in (False, True)
    }
    return _errors(limits, (m1, m0), (n1, n0), (1 - confidence) / 2)


def _weighted_estimate(strata: Sequence[WeightedStratum]) -> float | None:
    found = [one.estimate for one in strata if one.weight > 0]
    known = [one for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _errors(
    limits: Mapping[tuple[int, bool], Counts],
    unsafe: tuple[float | None, float | None],
    sizes: tuple[float, float],
    tail: float,
) -> JudgeErrors:
    """From limits of what is unsafe in both kinds of strata; the formulas of `judge_errors`."""
    (m1, m0), (n1, n0) = unsafe, sizes

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


def _sensitivity(m1: Counts, m0: Counts, n1: float, n0: float) -> Counts:
    return m1 / (m1 + m0)


def _specificity(m1: Counts, m0: Counts, n1: float, n0: float) -> Counts:
    return (n0 - m0) / (n0 - m0 + n1 - m1)


def _precision(m1: Counts, m0: Counts, n1: float, n0: float) -> Counts:
    return m1 / np.float64(n1)


def _kappa(m1: Counts, m0: Counts, n1: float, n0: float) -> Counts:
    return 2 * (m1 * n0 - n1 * m0) / (n1 * (n1 + n0) + (m1 + m0) * (n0 - n1))
