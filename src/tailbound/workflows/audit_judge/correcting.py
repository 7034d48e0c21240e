"""From a sample and its labels to the corrected rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tailbound.judge_error import Stratum, judge_errors, prevalence
from tailbound.workflows.audit_judge.result import (
    AuditedStratum,
    AuditMadeWith,
    CorrectedRate,
    JudgeAudit,
    LabelledDraw,
)
from tailbound.workflows.audit_judge.sample import JudgeSample
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
    drawn = tuple(
        LabelledDraw(
            row=one.row,
            stream=one.stream,
            prompt_id=one.prompt_id,
            index=one.index,
            recorded=one.recorded,
            unsafe=labels[one.row],
        )
        for one in sample.rows
    )
    strata = _strata(sample, drawn)
    rng = np.random.default_rng([sample.seed, _MELDING])
    names = sorted({one.stream for one in strata})
    overall = _corrected("all", strata, confidence, rng)
    streams = tuple(
        _corrected(name, [one for one in strata if one.stream == name], confidence, rng)
        for name in names
    )
    errors = judge_errors(
        _of(strata, "unsafe"), _of(strata, "safe"), confidence=confidence, rng=rng
    )
    return JudgeAudit(
        folder=str(folder),
        recorded_judge=sample.recorded_judge,
        recorded_threshold=sample.recorded_threshold,
        confidence=confidence,
        overall=overall,
        streams=streams,
        strata=strata,
        errors=errors,
        left_out=sample.left_out,
        warnings=(*warnings, *_warnings(strata, overall, confidence)),
        labels=drawn,
        made_with=made_with,
    )


def _strata(sample: JudgeSample, drawn: Sequence[LabelledDraw]) -> tuple[AuditedStratum, ...]:
    found = []
    for one in sample.strata:
        labels = [
            row.unsafe for row in drawn if (row.stream, row.recorded) == (one.stream, one.recorded)
        ]
        unclear = labels.count(None)
        found.append(
            AuditedStratum(
                stream=one.stream,
                recorded=one.recorded,
                draws=one.draws,
                sampled=one.sampled,
                labelled=len(labels) - unclear,
                unsafe=labels.count(True),
                unclear=unclear,
            )
        )
    return tuple(found)


def _corrected(
    name: str, strata: Sequence[AuditedStratum], confidence: float, rng: np.random.Generator
) -> CorrectedRate:
    draws = sum(one.draws for one in strata)
    unsafe = sum(one.draws for one in strata if one.recorded == "unsafe")
    safe = sum(one.draws for one in strata if one.recorded == "safe")
    return CorrectedRate(
        stream=name,
        uncorrected=rate_of(
            "recorded", draws, unsafe, draws - unsafe - safe, confidence=confidence
        ),
        corrected=prevalence([_plain(one) for one in strata], confidence=confidence, rng=rng),
    )


def _plain(one: AuditedStratum) -> Stratum:
    return Stratum(draws=one.draws, labelled=one.labelled, unsafe=one.unsafe, unclear=one.unclear)


def _of(strata: Sequence[AuditedStratum], recorded: str) -> list[Stratum]:
    return [_plain(one) for one in strata if one.recorded == recorded]


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
    unseen = _of(strata, "safe")
    labelled = sum(one.labelled for one in unseen)
    if labelled and not sum(one.unsafe for one in unseen):
        found.append(
            f"none of {labelled:,} labels of draws recorded safe is unsafe, which leaves a rate "
            f"of missed ones of up to about {-math.log((1 - confidence) / 2) / labelled:.2g}: "
            "more --negatives lower the upper end"
        )
    return found
