"""`tailbound monitor`: outcomes of production against what a run audited."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.monitor.settings import MonitorOptions

if TYPE_CHECKING:
    from tailbound.workflows.monitor.command import Update
    from tailbound.workflows.monitor.state import MonitorResult, UnitState

ALARM = 3
"""The exit code after an alarm, of this call or of an earlier one."""
SHOWN = 10


@declares(MonitorOptions)
def command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Run folder of a risk or a bound.")
    ],
    outcomes: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUTCOMES",
            help="File of counts (JSONL, JSON, CSV, Parquet; - for JSONL on standard input): "
            "draws, unsafe, and prompt_id or group. Without it: where monitoring stands.",
        ),
    ] = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Raise an alarm (exit code 3) when production is worse than what a run audited."""
    from tailbound.workflows.monitor.command import monitor_command

    def report(update: Update) -> None:
        if not as_json:
            sys.stdout.write(_line(update) + "\n")
            sys.stdout.flush()

    found = monitor_command(folder, outcomes, options, report=report)
    if as_json:
        json_document(found.to_dict())
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(found))
    if found.alarm is not None:
        raise typer.Exit(ALARM)


def _line(update: Update) -> str:
    """One update on one line."""
    state = update.state
    counted = f"{update.repeated:,} outcomes counted earlier" if update.repeated else ""
    if not update.outcomes:
        return f"nothing new{f': {counted}' if counted else ''}"
    missing = f" and {update.missing:,} without a verdict" if update.missing else ""
    word = "ALARM" if state.alarm is not None else "no alarm"
    return (
        f"update {state.updates:,}: {update.outcomes:,} outcomes, {update.draws:,} draws, "
        f"{update.unsafe:,} unsafe{missing}{f' ({counted})' if counted else ''}; evidence "
        f"{state.e_value:.3g} of {1 / state.alpha:.4g}: {word}"
    )


def _lines(found: MonitorResult) -> list[str]:
    """What all updates come to."""
    lines = [f"monitored: {visible(found.statement)}"]
    lines.append(
        f"so far: {found.outcomes:,} outcomes, {found.draws:,} draws, {found.unsafe:,} unsafe, "
        f"{found.missing:,} without a verdict"
        + (" (counted as unsafe, as in the audit)" if found.missing else "")
    )
    if found.unused:
        lines.append(f"not used: {found.unused:,} outcomes without draws or an audited value")
    if found.cut:
        lines.append(
            f"{found.cut:,} outcomes have fewer draws than their bound: a rise shows in them late, "
            "or not at all"
        )
    if found.alarm is None:
        lines.append(
            f"no alarm: evidence {found.e_value:.3g}, alarm at {1 / found.alpha:.4g} "
            f"(probability of ever a false alarm: at most {found.alpha:g})"
        )
        return lines
    lines.append(
        f"ALARM at outcome {found.alarm.outcome:,} ({visible(found.alarm.place)}, update "
        f"{found.alarm.update:,}): false with probability at most {found.alpha:g}, over all "
        "updates and units"
    )
    named = found.named
    lines.extend(f"  {_unit(one)}" for one in named[:SHOWN])
    if len(named) > SHOWN:
        lines.append(f"  and {len(named) - SHOWN:,} more units (--json lists them)")
    if not named:
        lines.append("  no unit by itself: the evidence of several together")
    return lines


def _unit(unit: UnitState) -> str:
    names = {"overall": "all outcomes", "other": "prompts without a value of their own"}
    name = names.get(unit.kind) or f"{unit.kind} {visible(unit.name)}"
    missing = f" and {unit.missing:,} without a verdict" if unit.missing else ""
    return (
        f"{name}: {unit.unsafe:,} unsafe{missing} of {unit.draws:,} draws; the rise began at about "
        f"outcome {unit.process.since:,} of its {unit.process.outcomes:,}"
    )
