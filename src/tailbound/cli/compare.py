"""`tailbound compare`: two runs on the same prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.compare.settings import CompareOptions


@declares(CompareOptions)
def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="Run folder to compare with.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Run folder that may differ from it.")],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Compare two runs on the same prompts: what changed, by how much, and for which prompts."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.compare.command import compare_command

    with LiveProgress():
        result = compare_command(a, b, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.compare import compare

    compare(result)
