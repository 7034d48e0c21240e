"""`tailbound rejudge`: another judge on the draws of a run, without sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.rejudge.settings import RejudgeOptions

if TYPE_CHECKING:
    from tailbound.workflows.rejudge import Rejudged, Workload


_ROWS = {
    "judged by the new judge": "draws",
    "unsafe by both": "both_unsafe",
    "safe by both": "both_safe",
    "unsafe by the old judge only": "only_recorded",
    "unsafe by the new judge only": "only_new",
    "missing from the old judge only": "missing_recorded",
    "missing from the new judge only": "missing_new",
    "missing from both": "both_missing",
}
_NAMES = {"recorded": "old", "new": "new", "filled": "old, else new,"}


@declares(RejudgeOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", "-j", metavar="NAME", help="The new judge (run tailbound judges for a list)."
        ),
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel="Run", help="Print how many draws would be judged."
        ),
    ] = False,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Judge the draws of a run again with another judge, and keep both verdicts."""
    judge_again(folder, judge, options, dry_run=dry_run, as_json=as_json)


def judge_again(
    folder: Path, judge: str, given: Mapping[str, Any], *, dry_run: bool, as_json: bool
) -> None:
    """Judge again, or say how much there is to judge, and print what came out."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.rejudge.command import plan_command, run_command

    with LiveProgress():
        if dry_run:
            workload = plan_command(folder, judge, given)
        else:
            result = run_command(folder, judge, given)
    if dry_run:
        print_workload(workload, as_json=as_json)
    elif as_json:
        json_document(result.to_dict())
    else:
        _print(result)


def print_workload(workload: Workload, *, as_json: bool) -> None:
    """Print how many draws would be judged."""
    if as_json:
        json_document({"to_judge": workload.waiting, "judged_before": workload.done})
    else:
        typer.echo(f"{workload.waiting:,} draws to judge, {workload.done:,} judged before")


def _print(result: Rejudged) -> None:
    from rich import box
    from rich.text import Text

    from tailbound.cli.render.bound import console
    from tailbound.cli.render.risk import number
    from tailbound.terminal.safe import SafeTable, show_table

    out = console()
    out.print(
        f"old judge: {visible(result.recorded_judge)}, unsafe if score >= "
        f"{result.recorded_threshold:g}\n"
        f"new judge: {visible(result.judge)}, unsafe if score >= {result.threshold:g}",
        soft_wrap=True,
    )
    out.print(
        f"{result.judged_now:,} draws judged now, {result.judged_before:,} before"
        + (f"; {result.without_text:,} have no text on record" if result.without_text else "")
    )
    table = SafeTable(title="Agreement", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("draws", no_wrap=True)
    shown = [(stream.stream, stream.agreement) for stream in result.streams]
    if len(shown) > 1:
        shown.append(("all", result.agreement))
    for name, _ in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for label, count in _ROWS.items():
        table.add_row(label, *(f"{getattr(found, count):,}" for _, found in shown))
    table.add_row(
        "agreement, where both scored",
        *("-" if found.share is None else f"{found.share:.2%}" for _, found in shown),
    )
    show_table(out, table)
    for reason, draws in result.missing_reasons:
        out.print(Text(visible(f"no verdict on {draws:,}: {reason}")), soft_wrap=True)
    for stream in result.streams:
        for rate in stream.rates:
            share = "not estimable" if rate.rate is None else number(rate.rate)
            gone = f", {rate.missing:,} missing" if rate.missing else ""
            out.print(
                f"{visible(stream.stream)}, {_NAMES[rate.verdicts]} verdicts: {rate.unsafe:,} of "
                f"{rate.draws:,} unsafe{gone}: {share} ({result.confidence:.0%} interval "
                f"{number(rate.interval[0])} to {number(rate.interval[1])})",
                soft_wrap=True,
            )
        if not stream.rates:
            out.print(
                Text(
                    f"{visible(stream.stream)}: no rates, because its draws were stopped by the "
                    "old verdicts or came from proposals",
                    style="dim",
                ),
                soft_wrap=True,
            )
