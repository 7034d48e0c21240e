"""`audit-judge` from its keyword arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, step
from tailbound.errors import UsageError
from tailbound.runs.draws import scan
from tailbound.runs.history import seals_of
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import load_prompts
from tailbound.workflows.audit_judge.correcting import audit_of
from tailbound.workflows.audit_judge.drawing import draw_judge_sample
from tailbound.workflows.audit_judge.judging import judge_sample
from tailbound.workflows.audit_judge.result import AuditMadeWith, JudgeAudit, write_audit
from tailbound.workflows.audit_judge.sample import (
    JudgeSample,
    read_sample,
    write_sample,
)
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions
from tailbound.workflows.audit_judge.sheet import check_sheet, read_labels, write_sheet
from tailbound.workflows.costs import Costs
from tailbound.workflows.opening import JudgeSource, judge_of, name_of_judge
from tailbound.workflows.rejudge.job import verdicts_id


def audit_judge_command(
    folder: Path, judge: JudgeSource | None, given: Mapping[str, Any]
) -> JudgeAudit | JudgeSample:
    """Everything that `tailbound audit-judge` does; `given` are options of `AuditJudgeOptions`.

    The sample is what comes back where a sheet is written, else the corrected rates. Raises
    `UsageError` for what is no run or has no rate to correct, and for a sheet that cannot be read.
    """
    asked = make(AuditJudgeOptions, given)
    asked.check_source(judge)
    read_manifest(folder)
    if asked.labels is not None:
        return _from_labels(folder, asked, asked.labels)
    if asked.sheet is not None:
        check_sheet(asked.sheet)
        sample = _drawn(folder, asked)
        write_sample(folder, sample)
        write_sheet(asked.sheet, folder, sample, {} if asked.no_prompts else load_prompts(folder))
        return sample
    assert judge is not None
    return _from_judge(folder, asked, judge)


def _drawn(folder: Path, asked: AuditJudgeOptions) -> JudgeSample:
    with step("drawing a sample"):
        return draw_judge_sample(folder, asked)


def _from_labels(folder: Path, asked: AuditJudgeOptions, path: Path) -> JudgeAudit:
    sample = read_sample(folder)
    if sample is None:
        raise UsageError(
            f"{folder} has no sample on record: write a sheet first (tailbound audit-judge "
            f"{folder} --sheet FILE.csv)"
        )
    labels = read_labels(path, sample)
    made_with = _made_with(sample, None, None, None)
    warnings = []
    if seals_of(folder) != sample.rests_on:
        warnings.append(
            f"draws were added after the sample was drawn: the rates are of the "
            f"{sum(one.draws for one in sample.strata):,} draws that there were"
        )
    return _kept(folder, sample, labels, made_with, asked.confidence, warnings)


def _from_judge(folder: Path, asked: AuditJudgeOptions, source: JudgeSource) -> JudgeAudit:
    sample = _drawn(folder, asked)
    prompts: dict[str, Prompt] | None = None
    if not asked.no_prompts:
        prompts = load_prompts(folder)
        lacking = [one.prompt_id for one in sample.rows if one.prompt_id not in prompts]
        if lacking:
            raise UsageError(
                f"{folder} does not hold the text of prompt {lacking[0]!r}: give --no-prompts if "
                "the judge looks at responses alone"
            )
    made = judge_of(source, threshold=asked.threshold)
    judge_id, name = verdicts_id(made, prompts), name_of_judge(source)
    if made.id in scan(folder).select("judge").unique().collect()["judge"].to_list():
        raise UsageError(
            f"{made.id} is the judge that the draws were judged by: give a better one, or label a "
            "sheet (--sheet)"
        )
    write_sample(folder, sample)
    with (
        keeping(folder),
        Costs(None, made).kept(folder),
        step("judging", unit="draws") as now,
    ):
        labels = judge_sample(
            folder, sample, made, name=name, prompts=prompts, report=partial(_advance, now)
        )
    made_with = _made_with(sample, name, judge_id, made.threshold)
    return _kept(folder, sample, labels, made_with, asked.confidence, ())


def _made_with(
    sample: JudgeSample, judge: str | None, judge_id: str | None, threshold: float | None
) -> AuditMadeWith:
    return AuditMadeWith(
        sample=sample.id,
        positives=sample.positives,
        negatives=sample.negatives,
        missing=sample.missing,
        before_bounds=0 if sample.before is None else sample.before.sampled,
        seed=sample.seed,
        judge=judge,
        judge_id=judge_id,
        threshold=threshold,
    )


def _kept(
    folder: Path,
    sample: JudgeSample,
    labels: Mapping[str, bool | None],
    made_with: AuditMadeWith,
    confidence: float,
    warnings: list[str] | tuple[()],
) -> JudgeAudit:
    with step("correcting the rates"):
        result = audit_of(
            folder, sample, labels, made_with, confidence=confidence, warnings=warnings
        )
    write_audit(folder, result)
    return result


def _advance(now: Step, done: int, total: int) -> None:
    now.total = total
    now.advance(done - now.done)
