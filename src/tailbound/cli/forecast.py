"""`tailbound forecast`: what measured probabilities say about deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.workflows.forecast.settings import ForecastOptions


@declares(ForecastOptions)
def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder with risk.json or summary.json, or a table (CSV, TSV, JSONL, JSON, "
            "Parquet): p, low, high, and where wanted id, group, weight, resolved.",
        ),
    ],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Forecast unsafe outputs of a traffic mix, and the worst of many more queries."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.forecast.command import forecast_command

    with LiveProgress():
        result = forecast_command(source, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.forecast import forecast

    forecast(result)
