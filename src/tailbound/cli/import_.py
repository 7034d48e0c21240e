"""`tailbound import`: draws that were made elsewhere, as a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.import_.settings import ImportOptions
from tailbound.workflows.settings import RecordOptions


@declares(ImportOptions, RecordOptions)
def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Inspect log, lm-eval samples, garak report, or a table."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Run folder; draws already in it are not added again.",
        ),
    ],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Import finished evaluations into a run folder, for `tailbound summarize`."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.import_.job import import_command

    with LiveProgress():
        result = import_command(source, out, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render import bound as render

    there = f", {result.there:,} were there already" if result.there else ""
    file, folder, judge = (visible(str(name)) for name in (source, out, result.judge))
    render.console().print(
        f"Imported {result.draws:,} of {result.outputs:,} outputs of {result.prompts:,} prompts "
        f"in {file} ({result.format}): {result.added:,} added to {folder}{there}.\n"
        f"Unsafe (score >= {result.threshold:g} by {judge}): {result.unsafe:,}; without a "
        f"score, and so missing: {result.missing:,}."
        + ("" if options["invert"] else " If high scores mean safe, import with --invert."),
        markup=False,
    )
    if result.missing == result.draws:
        render.next_step(f"tailbound rejudge {out} --judge JUDGE")
        return
    render.next_step(f"tailbound summarize {out}")
