"""`tailbound risk --rejudge`: the risks under another judge, from the draws on record."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailbound.judges import Judge
    from tailbound.prompt import Prompt
    from tailbound.workflows.risk import Proposal, RiskSettings


def check_again(folder: Path, prompts: Sequence[Prompt]) -> None:
    """Find out before a judge is loaded whether there is anything to judge again."""
    from tailbound.errors import UsageError
    from tailbound.runs.prompts import load_prompts
    from tailbound.workflows import rejudge

    rejudge.check(folder, prompts={prompt.id: prompt for prompt in prompts})
    held = load_prompts(folder)
    new = [prompt.id for prompt in prompts if prompt.id not in held]
    if new:
        raise UsageError(
            f"{len(new)} prompts have no draws in {folder} (the first: {new[0]!r}): leave them "
            "out, or run the same command without --rejudge first"
        )


def judge_again(
    prompts: Sequence[Prompt],
    proposal: Proposal,
    model_judge: Judge,
    name: str,
    settings: RiskSettings,
    folder: Path,
    as_json: bool,
) -> None:
    """Both judges on the same draws: how far they agree, and the risks under the new one."""
    from tailbound.audit.judge_queue import no_verdicts
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.cli.render import risk as render_risk
    from tailbound.runs import reply_notices
    from tailbound.steps import step
    from tailbound.workflows import rejudge
    from tailbound.workflows.costs import Costs
    from tailbound.workflows.rejudge import read_verdicts, verdicts_folder
    from tailbound.workflows.risk import rejudge_risk
    from tailbound.workflows.risk.job import STREAM
    from tailbound.workflows.risk.results import finite

    known = {prompt.id: prompt for prompt in prompts}
    with Costs(None, model_judge).kept(folder), LiveProgress(), step("judging"):
        agreed = rejudge.rejudge(folder, model_judge, name=name, prompts=known)
    counts = agreed.agreement
    if counts.draws and counts.missing_new + counts.both_missing == counts.draws:
        reasons = [reason for reason, _ in agreed.missing_reasons[:1]]
        raise no_verdicts(model_judge.id, counts.draws, STREAM, reasons)
    for line in (*agreed.notices, *reply_notices(folder)):
        notice(line)
    home = verdicts_folder(folder, rejudge.verdicts_id(model_judge, known))
    frame = read_verdicts(home)
    verdicts: dict[str, dict[int, float | None]] = {}
    for stream, prompt_id, index, score in frame.select(
        "stream", "prompt_id", "index", "score"
    ).iter_rows():
        if stream == STREAM:
            verdicts.setdefault(prompt_id, {})[index] = score
    result = rejudge_risk(
        prompts,
        proposal=proposal,
        judge=model_judge,
        verdicts=verdicts,
        recorded_judge=agreed.recorded_judge,
        settings=settings,
        folder=folder,
        into=home,
    )
    if as_json:
        document = {**result.to_dict(), "agreement": agreed.agreement.to_dict()}
        sys.stdout.write(json.dumps(finite(document), indent=2, allow_nan=False) + "\n")
        return
    share = agreed.agreement.share
    with_old = "-" if share is None else f"{share:.2%}"
    render_risk.risk(
        result,
        subject=f"draws of {folder}, judged again by {name}; the judges agree on {with_old}",
        folder=str(home),
    )
