"""`tailbound gate`: an exit code that a pipeline obeys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.gate.settings import GateOptions

NOT_SHOWN = 3
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


@declares(GateOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Check requirements on the results of a run; exit code 3 unless they are shown to be met."""
    from tailbound.workflows.gate.command import gate_command

    named = os.environ.get(STEP_SUMMARY)
    result = gate_command(folder, options, step_summary=Path(named) if named else None)
    if as_json:
        json_document(result.to_dict())
    else:
        from tailbound.cli.render.gate import gate

        gate(result)
    if not result.passed:
        raise typer.Exit(NOT_SHOWN)
