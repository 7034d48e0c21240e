"""What each weighted draw of a finished run counts in the mean risk, from the record alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import LedgerError, TailboundError, UsageError
from tailbound.runs.manifest import read_manifest
from tailbound.runs.prompts import kept_table
from tailbound.workflows.risk.job import STREAM
from tailbound.workflows.risk.results import read_result
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.verify.prompts import prompts_of
from tailbound.workflows.verify.recorded import RecordedJudge, settings_of
from tailbound.workflows.verify.risk import opened, recorded_job
from tailbound.workflows.verify.working_copy import working_copy


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawCounts:
    """`of` has the numbers of each prompt, (draws,): draw i (from 1) counts the one at i - 1.

    The sum over unsafe draws is the mean risk. Safe draws are scored in part: those that are not
    count 0, and those that are stand for them. `sequential`: how many draws there are depended on
    what they brought.
    """

    of: dict[str, NDArray[np.float64]]
    sequential: bool


def draw_counts(folder: Path) -> DrawCounts:
    """Weights over the numbers of draws and prompts; densities of safe draws over their chance.

    Raises `UsageError` where the run has no risks yet, or they are mean scores, and `LedgerError`
    where its record is damaged.
    """
    manifest, result = read_manifest(folder), read_result(folder)
    if result is None:
        raise UsageError(f"{folder} has no risk.json yet: finish tailbound risk first")
    if manifest["options"].get("estimand", "unsafe") != "unsafe":
        raise UsageError(f"{folder} estimates mean scores: there is no rate of unsafe draws in it")
    judge = RecordedJudge(id=manifest["judge_id"], threshold=float(manifest["threshold"]))
    settings = settings_of(RiskSettings, manifest["options"])
    table = kept_table(folder)
    known = prompts_of(table.filter(table["part"] == STREAM))
    wanted = {one.prompt.id for one in result.risks} | set(result.left_out)
    prompts = [prompt for name, prompt in known.items() if name in wanted]
    try:
        with working_copy(folder) as copy, opened(copy, manifest) as ledger:
            job = recorded_job(copy, manifest, judge, settings, ledger)
            job.prepare(prompts)
            if job.unplanned or job.lacking or not job.plan.rounds:
                raise LedgerError(f"{folder}: draws, plan/ and scores/ do not go together")
            counts = job.draw_counts()
            several = any(job.plan.sequential(name) for name in counts)
    except UsageError:
        raise
    except TailboundError as error:
        raise LedgerError(
            f"{folder}: what its draws count cannot be told ({error}): tailbound verify {folder} "
            "says more"
        ) from error
    return DrawCounts(of=counts, sequential=several or settings.until_resolved)
