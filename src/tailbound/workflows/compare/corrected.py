"""The change of the rates by labels, where the judges of both runs were audited."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tailbound.judge_error import (
    Prevalence,
    Stratum,
    WeightedStratum,
    corrected_change,
    prevalence,
    weighted_prevalence,
)
from tailbound.workflows.audit_judge import JudgeAudit
from tailbound.workflows.compare.reading import Side
from tailbound.workflows.compare.result import CorrectedChange, CorrectedSide

_SEED = 0x6368616E
"""Of the simulated quantiles: the same comparison gives the same numbers."""


def corrected(
    a: Side, b: Side, *, confidence: float, sequential: bool
) -> tuple[CorrectedChange | None, str | None]:
    """The corrected change, or why there is none where one of the runs has an audit."""
    audits = a.audit, b.audit
    if audits == ((None, None), (None, None)):
        return None, None
    if sequential:
        return None, "corrected rates hold for one look: leave --sequential out to see them"
    for side in (a, b):
        audit, why = side.audit
        if audit is None:
            lacks = why or "no audit of its judge (tailbound audit-judge)"
            return None, f"rates are not corrected: {side.name}: {lacks}"
    first, second = a.audit[0], b.audit[0]
    assert first is not None
    assert second is not None
    rng = np.random.default_rng(_SEED)
    sides = tuple(_side(one, confidence, rng) for one in (first, second))
    found = corrected_change(first.limits_from, second.limits_from, confidence=confidence, rng=rng)
    estimates = [one.estimate for one in sides]
    known = [one for one in estimates if one is not None]
    return CorrectedChange(
        a=sides[0],
        b=sides[1],
        difference=known[1] - known[0] if len(known) == 2 else None,
        interval=found.difference,
        ratio_interval=found.ratio,
        confidence=confidence,
    ), None


def _side(audit: JudgeAudit, confidence: float, rng: np.random.Generator) -> CorrectedSide:
    found = rate_at(audit, confidence, rng)
    return CorrectedSide(
        uncorrected=audit.overall.uncorrected.rate,
        estimate=found.estimate,
        interval=found.interval,
        labels=sum(one.labelled for one in audit.strata),
        labels_by=audit.labels_by,
    )


def rate_at(audit: JudgeAudit, confidence: float, rng: np.random.Generator) -> Prevalence:
    """The corrected rate over all draws at another confidence level than that on record."""
    strata = audit.limits_from
    weighted = [one for one in strata if isinstance(one, WeightedStratum)]
    if weighted:
        return weighted_prevalence(weighted, confidence=confidence, rng=rng)
    plain = [one for one in strata if isinstance(one, Stratum)]
    return prevalence(plain, confidence=confidence, rng=rng)


def warnings(a: Side, b: Side, *, other_prompts: int) -> Iterator[str]:
    """What to beware of in a corrected change; `other_prompts` are not shared by the runs."""
    first, second = a.audit[0], b.audit[0]
    if first is None or second is None:
        return
    if other_prompts:
        yield (
            f"{other_prompts:,} prompts are not in both runs: the corrected rates are those of all "
            "audited draws of each"
        )
    if first.weighted == second.weighted is False and _weigh_otherwise(a, b):
        yield (
            "the runs have draws of the prompts in different proportions, and the corrected rates "
            "weight prompts by their draws: a change may be one of the mix"
        )
    if first.made_with.judge_id != second.made_with.judge_id:
        yield (
            f"the labels come from {first.labels_by} in A and {second.labels_by} in B: a corrected "
            "change may be one of who labelled"
        )


def _weigh_otherwise(a: Side, b: Side) -> bool:
    sizes = [{name: len(one) for name, one in side.outcomes.items()} for side in (a, b)]
    totals = [sum(one.values()) for one in sizes]
    if not all(totals):
        return False
    names = {*sizes[0], *sizes[1]}
    gap = max(
        abs(sizes[0].get(name, 0) / totals[0] - sizes[1].get(name, 0) / totals[1]) for name in names
    )
    return gap * len(names) > 0.05
