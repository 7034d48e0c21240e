"""From a sample and its labels to the corrected rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tailbound.judge_error import (
    JudgeErrors,
    WeightedStratum,
    judge_errors,
    prevalence,
    weighted_judge_errors,
    weighted_prevalence,
)
from tailbound.workflows.audit_judge.bounds import audited_bounds
from tailbound.workflows.audit_judge.result import (
    AuditedStratum,
    AuditMadeWith,
    CorrectedRate,
    JudgeAudit,
    LabelledDraw,
)
from tailbound.workflows.audit_judge.sample import Counted, JudgeSample, SampledStratum
from tailbound.workflows.rejudge.agreement import rate_of

_MELDING = 0x6D656C64
"""Part of the seed of simulated quantiles, which are no part of the sample."""


def audit_of(
    folder: Path,
    sample: JudgeSample,
    labels: Mapping[str, bool | None],
    made_with: AuditMadeWith,
    *,
    confidence: float,
    warnings: Iterable[str] = (),
) -> JudgeAudit:
    """The audit from the labels of every row of the sample; the same each time."""
    drawn = tuple(LabelledDraw(**vars(one), unsafe=labels[one.row]) for one in sample.rows)
    strata = _strata(sample, drawn)
    rng = np.random.default_rng([sample.seed, _MELDING])
    names = sorted({one.stream for one in strata})
    overall = _corrected("all", strata, confidence, rng)
    streams = tuple(
        _corrected(name, [one for one in strata if one.stream == name], confidence, rng)
        for name in names
    )
    errors = _errors(strata, confidence, rng)
    bounds = None
    if sample.before is not None:
        own = [row.unsafe for row in drawn if row.part == "before"]
        bounds = audited_bounds(sample.before, own, confidence=confidence, rng=rng)
    return JudgeAudit(
        folder=str(folder),
        rests_on=sample.rests_on,
        recorded_judge=sample.recorded_judge,
        recorded_threshold=sample.recorded_threshold,
        confidence=confidence,
        overall=overall,
        streams=streams,
        strata=strata,
        errors=errors,
        bounds=bounds,
        left_out=sample.left_out,
        warnings=(*warnings, *_warnings(strata, overall, confidence)),
        labels=drawn,
        made_with=made_with,
    )


def _strata(sample: JudgeSample, drawn: Sequence[LabelledDraw]) -> tuple[AuditedStratum, ...]:
    rows: dict[tuple[str, str, str], list[LabelledDraw]] = {}
    for row in drawn:
        rows.setdefault((row.stream, row.recorded, row.part), []).append(row)
    found = []
    for one in sample.strata:
        own = rows.get((one.stream, one.recorded, one.part), [])
        labels = [row.unsafe for row in own]
        unclear = labels.count(None)
        found.append(
            AuditedStratum(
                stream=one.stream,
                recorded=one.recorded,
                part=one.part,
                draws=one.draws,
                sampled=one.sampled,
                labelled=len(labels) - unclear,
                unsafe=labels.count(True),
                unclear=unclear,
                counted=one.counted,
                weighted=None if one.counted is None else _weighed(one, one.counted, own),
            )
        )
    return tuple(found)


def _weighed(
    one: SampledStratum, counted: Counted, rows: Sequence[LabelledDraw]
) -> WeightedStratum:
    """What labelled draws count: those labelled for certain, and picks, each as often as made."""
    certain = [(row.counts or 0.0, row.unsafe) for row in rows if not row.picks]
    picked = [(row.counts or 0.0, row.picks, row.unsafe) for row in rows if row.picks]
    unsafe = sum(times for _, times, label in picked if label)
    heavy = math.fsum(value * times for value, times, label in picked if label)
    return WeightedStratum(
        draws=one.draws,
        certain=max(0.0, counted.total - counted.rest),
        certain_unsafe=math.fsum(value for value, label in certain if label),
        certain_unclear=math.fsum(value for value, label in certain if label is None),
        squares=math.fsum(value**2 for value, label in certain if label is not False),
        rest=counted.rest,
        picks=sum(times for _, times, _ in picked),
        unsafe=unsafe,
        unclear=sum(times for _, times, label in picked if label is None),
        of_pick=heavy / unsafe if unsafe else None,
        largest=counted.largest,
    )


def _corrected(
    name: str, strata: Sequence[AuditedStratum], confidence: float, rng: np.random.Generator
) -> CorrectedRate:
    draws = sum(one.draws for one in strata)
    unsafe = sum(one.draws for one in strata if one.recorded == "unsafe")
    safe = sum(one.draws for one in strata if one.recorded == "safe")
    plain = rate_of("recorded", draws, unsafe, draws - unsafe - safe, confidence=confidence)
    weighted = [one.weighted for one in strata if one.weighted is not None]
    if not weighted:
        corrected = prevalence([one.plain for one in strata], confidence=confidence, rng=rng)
        return CorrectedRate(stream=name, uncorrected=plain, corrected=corrected, if_light=None)
    taken = [_taken(one, one.weighted) for one in strata if one.weighted is not None]
    # no draw heavier than those that the judge calls unsafe, as for the intervals of the run itself
    seen = [one for one in taken if one.certain_unsafe + one.certain_unclear > 0]
    as_judged = weighted_prevalence(seen or taken, confidence=confidence, rng=rng)
    light = [one.weighted for one in strata if one.weighted is not None and one.part != "heavy"]
    return CorrectedRate(
        stream=name,
        uncorrected=replace(plain, rate=as_judged.estimate, interval=as_judged.interval),
        corrected=weighted_prevalence(weighted, confidence=confidence, rng=rng),
        if_light=None
        if len(light) in (0, len(weighted))
        else weighted_prevalence(light, confidence=confidence, rng=rng).interval,
    )


def _taken(one: AuditedStratum, held: WeightedStratum) -> WeightedStratum:
    """The stratum as it would be if the recorded verdicts were right, and all of them labels."""
    unsafe = held.weight if one.recorded == "unsafe" else 0.0
    unclear = 0.0 if one.recorded in ("unsafe", "safe") else held.weight
    return replace(
        held,
        certain=held.weight,
        certain_unsafe=unsafe,
        certain_unclear=unclear,
        squares=one.counted.squares if one.counted and unsafe + unclear > 0 else 0.0,
        rest=0.0,
        picks=0,
        unsafe=0,
        unclear=0,
        of_pick=None,
    )


def _errors(
    strata: Sequence[AuditedStratum], confidence: float, rng: np.random.Generator
) -> JudgeErrors:
    said = [[one for one in strata if one.recorded == word] for word in ("unsafe", "safe")]
    positive, negative = said
    weighted = [[one.weighted for one in some if one.weighted is not None] for some in said]
    if any(weighted):
        return weighted_judge_errors(*weighted, confidence=confidence, rng=rng)
    return judge_errors(
        [one.plain for one in positive],
        [one.plain for one in negative],
        confidence=confidence,
        rng=rng,
    )


def _warnings(
    strata: Sequence[AuditedStratum], overall: CorrectedRate, confidence: float
) -> list[str]:
    found = []
    unclear = sum(one.unclear for one in strata)
    if unclear:
        found.append(
            f"{unclear:,} sampled draws have no clear label: safe in every lower end and unsafe in "
            "every upper one"
        )
    if overall.corrected.unlabelled:
        found.append(
            f"{overall.corrected.unlabelled:,} draws are in groups without any label, or have no "
            "text: unsafe in every upper end, and not in the estimate"
        )
    for part, words in (("all", ""), ("heavy", "heavy ")):
        unseen = [one for one in strata if one.recorded == "safe" and one.part == part]
        picks = [one.weighted.picks if one.weighted else one.labelled for one in unseen]
        if sum(picks) and not sum(one.unsafe for one in unseen):
            found.append(
                f"none of {sum(one.labelled for one in unseen):,} labels of {words}draws recorded "
                "safe is unsafe, which leaves a rate of missed ones of up to about "
                f"{-math.log((1 - confidence) / 2) / sum(picks):.2g}: more --negatives lower the "
                "upper end"
            )
    return found
