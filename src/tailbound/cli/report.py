"""`tailbound report`: one page about one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.report.settings import ReportOptions


@declares(ReportOptions)
def command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Run folders, one or several.")
    ],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Write one page about runs: answers, prompts, figures, cost, method."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.report.command import report_command

    with LiveProgress():
        result = report_command(folders, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.bound import console

    out = console()
    for one in result.answers:
        prefix = f"{one.run}: " if len(result.runs) > 1 else ""
        out.print(visible(f"{prefix}{one.question} {one.answer}"))
    out.print(visible(f"report: {result.path}"), soft_wrap=True)
