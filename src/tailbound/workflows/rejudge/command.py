"""`rejudge` from its keyword arguments to its result, and its dry run."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tailbound.core.interrupts import keeping
from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, step
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.runs import reply_notices
from tailbound.workflows.costs import Costs
from tailbound.workflows.opening import JudgeSource, judge_of, name_of_judge, report
from tailbound.workflows.rejudge.job import Rejudged, Workload, plan, rejudge, verdicts_id
from tailbound.workflows.rejudge.record import check, find_prompts


def plan_command(
    folder: Path,
    judge: JudgeSource,
    *,
    threshold: float | None = None,
    only_missing: bool = False,
    prompts: Path | None = None,
    field: str | None = None,
    no_prompts: bool = False,
    recorded_threshold: float | None = None,
) -> Workload:
    """How many draws the judge would judge."""
    made, known = _opened(folder, judge, threshold, prompts, field, no_prompts, recorded_threshold)
    return plan(folder, verdicts_id(made, known), only_missing=only_missing)


def run_command(
    folder: Path,
    judge: JudgeSource,
    *,
    threshold: float | None = None,
    only_missing: bool = False,
    prompts: Path | None = None,
    field: str | None = None,
    no_prompts: bool = False,
    recorded_threshold: float | None = None,
    confidence: float = 0.95,
) -> Rejudged:
    """Everything that `tailbound rejudge` does."""
    if not 0 < confidence < 1:
        raise UsageError(f"--confidence must lie strictly between 0 and 1, not {confidence}")
    made, known = _opened(folder, judge, threshold, prompts, field, no_prompts, recorded_threshold)
    with (
        keeping(folder),
        Costs(None, made).kept(folder),
        step("judging", unit="draws") as now,
    ):
        result = rejudge(
            folder,
            made,
            name=name_of_judge(judge),
            prompts=known,
            recorded_threshold=recorded_threshold,
            only_missing=only_missing,
            confidence=confidence,
            report=partial(_advance, now),
        )
    report(*result.notices, *reply_notices(folder))
    return result


def _opened(
    folder: Path,
    judge: JudgeSource,
    threshold: float | None,
    prompts: Path | None,
    field: str | None,
    no_prompts: bool,
    recorded_threshold: float | None,
) -> tuple[Judge, dict[str, Prompt] | None]:
    """The judge, and the prompts that it is shown, None for none."""
    if no_prompts and prompts is not None:
        raise UsageError("--prompts and --no-prompts exclude each other: leave one out")
    if field is not None and prompts is None:
        raise UsageError("--field names a column of --prompts: give that file, or leave it out")
    known = None if no_prompts else find_prompts(folder, file=prompts, field=field)
    # all that is wrong with the run comes before a judge is loaded, which may take minutes
    check(folder, prompts=known, recorded_threshold=recorded_threshold)
    return judge_of(judge, threshold=threshold), known


def _advance(now: Step, done: int, total: int) -> None:
    now.total = total
    now.advance(done - now.done)
