"""`rejudge` from its keyword arguments to its result, and its dry run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tailbound.core.interrupts import keeping
from tailbound.core.options import make
from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, step
from tailbound.core.values import place
from tailbound.judges import Judge
from tailbound.runs import reply_notices
from tailbound.workflows.costs import Costs
from tailbound.workflows.opening import JudgeSource, judge_of, name_of_judge, report
from tailbound.workflows.rejudge.job import Rejudged, Workload, plan, rejudge, verdicts_id
from tailbound.workflows.rejudge.record import check, find_prompts
from tailbound.workflows.rejudge.settings import RejudgeOptions


def plan_command(folder: Path, judge: JudgeSource, given: Mapping[str, Any]) -> Workload:
    """How many draws the judge would judge; `given` are options of `RejudgeOptions` by name."""
    asked = make(RejudgeOptions, given)
    made, known = _opened(folder, judge, asked)
    return plan(folder, verdicts_id(made, known), only_missing=asked.only_missing)


def run_command(folder: Path, judge: JudgeSource, given: Mapping[str, Any]) -> Rejudged:
    """Everything that `tailbound rejudge` does; `given` are options of `RejudgeOptions` by name."""
    asked = make(RejudgeOptions, given)
    made, known = _opened(folder, judge, asked)
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
            recorded_threshold=asked.recorded_threshold,
            only_missing=asked.only_missing,
            confidence=asked.confidence,
            report=partial(_advance, now),
        )
    report(*result.notices, *reply_notices(folder))
    return result


def _opened(
    folder: Path, judge: JudgeSource, asked: RejudgeOptions
) -> tuple[Judge, dict[str, Prompt] | None]:
    """The judge, and the prompts that it is shown, None for none."""
    known = None
    if not asked.no_prompts:
        file = None if asked.prompts is None else place(asked.prompts, name="--prompts")
        known = find_prompts(folder, file=file, field=asked.field)
    # all that is wrong with the run comes before a judge is loaded, which may take minutes
    check(folder, prompts=known, recorded_threshold=asked.recorded_threshold)
    return judge_of(judge, threshold=asked.threshold), known


def _advance(now: Step, done: int, total: int) -> None:
    now.total = total
    now.advance(done - now.done)
