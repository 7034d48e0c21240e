"""`tailbound sensitivity`: how much the wording of a query matters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.sensitivity.settings import SensitivityOptions


@declares(SensitivityOptions)
def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder with risk.json or summary.json, or a table (CSV, TSV, JSONL, JSON, "
            "Parquet): p, low, high, group, and where wanted id, resolved.",
        ),
    ],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Say how much the wording of a query matters, from estimates of groups of rewordings."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.sensitivity.command import sensitivity_command

    with LiveProgress():
        result = sensitivity_command(source, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.sensitivity import sensitivity

    sensitivity(result)
