"""`tailbound export`: the draws of a run for another tool."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.export.settings import ExportOptions


@declares(ExportOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Write the draws of a run as a log that Inspect shows."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.export.command import export_command

    with LiveProgress():
        result = export_command(folder, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.bound import console, next_step

    out = console()
    out.print(
        visible(
            f"Exported {result.exported:,} of {result.draws:,} draws of {result.prompts:,} "
            f"prompts to {result.file}."
        ),
        soft_wrap=True,
    )
    for line in result.warnings:
        out.print(visible(f"- {line}"))
    next_step(f"inspect view --log-dir {shlex.quote(str(Path(result.file).parent))}")
