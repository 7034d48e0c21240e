"""Options that several commands share and that no settings declare (`tailbound.cli.declared`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN = "Run"

Prompts = Annotated[
    Path,
    typer.Argument(
        metavar="PROMPTS",
        help="Prompt file (JSONL, JSON, CSV, Parquet or text), hf-dataset:ORG/NAME, or the name "
        "of a public set such as strongreject.",
    ),
]
FromTable = Annotated[
    Path | None,
    typer.Option(
        "--from-table",
        metavar="TABLE",
        help="Calibrate on times that were observed elsewhere (CSV, JSONL, JSON or Parquet: time, "
        "event, and p_hat or hazards h1, h2, ...), in place of PROMPTS: no model and no judge. "
        "- is standard input.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FOLDER", help="Run folder; a run already there is resumed."
    ),
]
PromptsOrTable = Annotated[
    Path | None,
    typer.Argument(
        metavar="PROMPTS",
        help="Prompt file (JSONL, JSON, CSV, Parquet or text), hf-dataset:ORG/NAME, or the name "
        "of a public set such as strongreject.",
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        metavar="NAME",
        help="Model under audit: demo, hf:NAME, hf:./folder or openai:NAME.",
    ),
]
Judge = Annotated[
    str,
    typer.Option(
        "--judge",
        "-j",
        metavar="NAME",
        help="What decides that a response is unsafe: demo, regex:, keywords:, python:, "
        "classifier:, guard: or rubric: (run tailbound judges for details).",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", rich_help_panel=RUN, help="Random seed.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        rich_help_panel=RUN,
        help="Print the planned draws, tokens, time and cost, and stop.",
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
        help="Judge the draws of the run in --out with another judge; sample nothing.",
    ),
]
