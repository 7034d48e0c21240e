"""About how many more labels would tell something of a corrected rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tailbound.judge_error import (
    Stratum,
    WeightedStratum,
    factor_needed,
    prevalence,
    weighted_prevalence,
)
from tailbound.workflows.audit_judge.result import AuditedStratum, JudgeAudit

SIMULATED = 20_000
MOST = 10**6
"""Times as many labels as there are that somebody may be told to make, draws allowing."""


def more_labels(audit: JudgeAudit, shows: Callable[[float, float], bool]) -> int | None:
    """Until both ends of the corrected interval are such that `shows` is true.

    With f times as many labels of every stratum, as far as it has draws, and the same shares of
    unsafe ones. None where all draws on record would not do.
    """
    strata = [one for one in audit.strata if one.sampled]

    def ends(factor: float) -> tuple[float, float]:
        rng = np.random.default_rng(0)
        rest = [one for one in audit.strata if not one.sampled]
        if audit.weighted:
            weighted = [_weighed(one, one.weighted, factor) for one in strata if one.weighted]
            weighted += [one.weighted for one in rest if one.weighted]
            return weighted_prevalence(
                weighted, confidence=audit.confidence, rng=rng, simulated=SIMULATED
            ).interval
        plain = [_plain(one, factor) for one in strata] + [one.plain for one in rest]
        return prevalence(plain, confidence=audit.confidence, rng=rng, simulated=SIMULATED).interval

    if not strata:
        return None
    most = max(one.draws / one.sampled for one in strata)
    factor = factor_needed(lambda factor: shows(*ends(factor)), most=min(max(1.0, most), MOST))
    if factor is None:
        return None
    return max(1, sum(_sampled(one, factor) - one.sampled for one in strata))


def _sampled(one: AuditedStratum, factor: float) -> int:
    return min(one.draws, math.ceil(one.sampled * factor))


def _plain(one: AuditedStratum, factor: float) -> Stratum:
    sampled = _sampled(one, factor)
    unclear = round(one.unclear * sampled / one.sampled)
    labelled = sampled - unclear
    share = one.unsafe / one.labelled if one.labelled else 0.0
    return Stratum(
        draws=one.draws, labelled=labelled, unsafe=round(share * labelled), unclear=unclear
    )


def _weighed(one: AuditedStratum, held: WeightedStratum, factor: float) -> WeightedStratum:
    if not held.picks:
        return held
    labelled = held.picks - held.unclear
    share = held.unsafe / labelled if labelled else 0.0
    if _sampled(one, factor) == one.draws:  # every draw is labelled for certain
        unsafe = held.rest * share
        each = one.counted.largest if one.counted and held.of_pick is None else held.of_pick
        return replace(
            held,
            certain=held.weight,
            certain_unsafe=held.certain_unsafe + unsafe,
            squares=held.squares + unsafe * (each or 0.0),
            rest=0.0,
            picks=0,
            unsafe=0,
            unclear=0,
            of_pick=None,
        )
    picks = math.ceil(held.picks * factor)
    unclear = round(held.unclear * factor)
    return replace(held, picks=picks, unsafe=round(share * (picks - unclear)), unclear=unclear)
