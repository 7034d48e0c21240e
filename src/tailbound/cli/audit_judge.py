"""`tailbound audit-judge`: rates corrected for the mistakes of the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions


@declares(AuditJudgeOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            "-j",
            metavar="NAME",
            help="A better judge that labels the sample (run tailbound judges for a list).",
        ),
    ] = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Correct rates for the judge's mistakes, by labels of a sample of its draws."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.audit_judge.command import audit_judge_command
    from tailbound.workflows.audit_judge.result import JudgeAudit

    with LiveProgress():
        found = audit_judge_command(folder, judge, options)
    if as_json:
        json_document(found.to_dict())
        return
    from tailbound.cli.render.audit_judge import audit, sample

    if isinstance(found, JudgeAudit):
        audit(found)
    else:
        sample(found, options["sheet"], folder)
