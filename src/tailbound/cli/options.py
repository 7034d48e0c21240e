"""Options that several commands share and that no settings declare (`tailbound.cli.declared`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN = "Run"

Prompts = Annotated[
    Path,
    typer.Argument(help="JSONL, CSV or Parquet file, hf-dataset:ORG/NAME, or a known set's name."),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Run folder; a run that is there is resumed.")
]
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", help="Model under audit: demo, hf:NAME, hf:./folder, openai:NAME."
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        "-j",
        help="demo, regex:, keywords:, python:, classifier:, guard:, rubric: (tailbound judges).",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Unsafe means score >= this (default: the judge's own)."),
]
Field = Annotated[str | None, typer.Option("--field", help="Column that holds the prompts.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Use only the first N prompts.")]
Seed = Annotated[int, typer.Option("--seed", rich_help_panel=RUN, help="Random seed.")]
NoText = Annotated[
    bool,
    typer.Option(
        "--no-text", rich_help_panel=RUN, help="Keep scores, not responses, in the ledger."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", rich_help_panel=RUN, help="Print draws, tokens, time and cost; keep nothing."
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", rich_help_panel=RUN, help="Print one JSON document to standard output."),
]
Rejudge = Annotated[
    bool,
    typer.Option(
        "--rejudge",
        rich_help_panel=RUN,
        help="Judge the draws of the run in --out by another judge; sample nothing.",
    ),
]
