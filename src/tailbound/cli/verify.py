"""`tailbound verify`: whether the results of a run follow from its record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.verify.settings import VerifyOptions

if TYPE_CHECKING:
    from tailbound.workflows.verify import Check, Verification

DIFFERS = 3


@declares(VerifyOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Compute every result of a run again from its draws, and say whether they match."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.verify.command import verify_command

    with LiveProgress():
        result = verify_command(folder, options)
    if as_json:
        json_document(result.to_dict())
    else:
        _print(result)
    if not result.matches:
        raise typer.Exit(DIFFERS)


def _print(result: Verification) -> None:
    from tailbound.terminal.console import say

    for check in result.checks:
        say(visible(f"{check.outcome:<15} {check.name}: {check.detail}"))
        for line in _differences(check):
            say(visible(f"{'':<15}   {line}"))
    wrong = sum(check.wrong for check in result.checks)
    open_ = sum(check.outcome == "not recomputed" for check in result.checks)
    rest = f"; {open_} not recomputed" if open_ else ""
    if wrong:
        say(f"{wrong} of {len(result.checks) - open_} checks failed{rest}")
    else:
        say(f"all {len(result.checks) - open_} checks match{rest}")


def _differences(check: Check) -> list[str]:
    lines = [
        f"{one.place}: {one.recorded!r} is recorded, {one.found!r} was found"
        for one in check.differences
    ]
    more = check.differing - len(check.differences)
    return [*lines, f"and {more:,} more"] if more else lines
