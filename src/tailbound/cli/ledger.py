"""`tailbound ledger`: the files that hold the draws of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.ledger.settings import LedgerOptions

if TYPE_CHECKING:
    from tailbound.workflows.ledger import LedgerReport

DAMAGED = 1


@declares(LedgerOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    action: Annotated[
        str,
        typer.Argument(
            metavar="ACTION",
            help="verify (read every shard; exit code 1 for damage), compact (few large shards "
            "in place of many small ones) or stats (what it holds).",
        ),
    ],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Check, compact or count the shards that hold the draws of a run."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.ledger.command import ledger_command

    with LiveProgress():
        report = ledger_command(folder, action, options)  # type: ignore[arg-type]
    if as_json:
        json_document(report.to_dict())
    else:
        _print(report)
    if not report.sound:
        raise typer.Exit(DAMAGED)


def _print(report: LedgerReport) -> None:
    from tailbound.terminal.console import say

    if report.action == "verify":
        for one in report.shards:
            detail = one.detail or f"{one.rows or 0:,} draws"
            say(visible(f"{one.outcome:<9} {one.file}: {detail}"))
        for line in report.problems:
            say(visible(f"{'wrong':<9} {line}"))
        broken = sum(one.outcome != "sound" for one in report.shards)
        say(
            f"all {len(report.shards):,} shards are sound, with {report.rows:,} draws"
            if report.sound
            else f"{broken:,} of {len(report.shards):,} shards are not sound; "
            f"{len(report.problems):,} other problems"
        )
        return
    if report.action == "compact":
        say(f"{report.shards_before:,} shards became {len(report.shards):,}")
    for name, value in report.facts().items():
        said = "unknown" if value is None else f"{value:,.1f}" if type(value) is float else value
        said = f"{said:,}" if type(said) is int else said
        say(f"{name.replace('_', ' '):<15} {said}")
    for each in report.streams:
        unsafe = "" if each.unsafe is None else f", {each.unsafe:,} unsafe"
        held = f"{each.draws:,} draws of {each.prompts:,} prompts"
        say(visible(f"{'stream':<15} {each.stream}: {held}{unsafe}, {each.missing:,} missing"))
