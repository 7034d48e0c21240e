"""`tailbound rejudge`: another judge on the draws of a run, without sampling."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailbound.cli import options as opt
from tailbound.cli.interruption import keeping
from tailbound.outside import visible

if TYPE_CHECKING:
    from tailbound.judges import Judge
    from tailbound.prompt import Prompt
    from tailbound.steps import Step
    from tailbound.workflows.rejudge import Rejudged


_ROWS = {
    "judged by the new judge": "draws",
    "both find it unsafe": "both_unsafe",
    "neither does": "both_safe",
    "only the old judge": "only_recorded",
    "only the new judge": "only_new",
    "no verdict by the old one": "missing_recorded",
    "no verdict by the new one": "missing_new",
    "no verdict by either": "both_missing",
}
_NAMES = {"recorded": "old", "new": "new", "filled": "old, else new,"}


def command(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    judge: Annotated[
        str,
        typer.Option("--judge", "-j", help="Judge, as for `bound` (tailbound judges lists them)."),
    ],
    threshold: opt.Threshold = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Judge only draws whose verdict is missing.")
    ] = False,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="File of the prompts, if the run has none.")
    ] = None,
    field: Annotated[
        str | None, typer.Option("--field", help="Column that holds the prompts.")
    ] = None,
    no_prompts: Annotated[
        bool, typer.Option("--no-prompts", help="Show the judge only the responses.")
    ] = False,
    recorded_threshold: Annotated[
        float | None,
        typer.Option(
            "--recorded-threshold",
            help="Threshold of the run's own verdicts (default: as recorded).",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Confidence level of each interval.")
    ] = 0.95,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel="Run", help="Print how many draws would be judged."
        ),
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Judge a run's draws again by another judge; both verdicts are kept."""
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.errors import UsageError
    from tailbound.judges.registry import load_judge
    from tailbound.runs import reply_notices
    from tailbound.steps import step
    from tailbound.workflows import rejudge
    from tailbound.workflows.costs import Costs

    if not 0 < confidence < 1:
        raise UsageError(f"--confidence must lie strictly between 0 and 1, not {confidence}")
    if no_prompts and prompts is not None:
        raise UsageError("--prompts and --no-prompts exclude each other: leave one out")
    if field is not None and prompts is None:
        raise UsageError("--field names a column of --prompts: give that file, or leave it out")
    known = None if no_prompts else rejudge.find_prompts(folder, file=prompts, field=field)
    # all that is wrong with the run comes before a judge is loaded, which may take minutes
    rejudge.check(folder, prompts=known, recorded_threshold=recorded_threshold)
    with LiveProgress():
        model_judge = load_judge(judge, threshold=threshold)
    if dry_run:
        preview(folder, model_judge, known, only_missing=only_missing, as_json=as_json)
        return
    with (
        keeping(folder),
        Costs(None, model_judge).kept(folder),
        LiveProgress(),
        step("judging", unit="draws") as now,
    ):
        result = rejudge.rejudge(
            folder,
            model_judge,
            name=judge,
            prompts=known,
            recorded_threshold=recorded_threshold,
            only_missing=only_missing,
            confidence=confidence,
            report=partial(_report, now),
        )
    for line in (*result.notices, *reply_notices(folder)):
        notice(line)
    if as_json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
        return
    _print(result)


def preview(
    folder: Path,
    judge: Judge,
    prompts: dict[str, Prompt] | None,
    *,
    only_missing: bool = False,
    as_json: bool = False,
) -> None:
    """Print how many draws `judge` would judge."""
    from tailbound.workflows import rejudge

    judge_id = rejudge.verdicts_id(judge, prompts)
    work = rejudge.plan(folder, judge_id, only_missing=only_missing)
    document = {"to_judge": work.waiting, "judged_before": work.done}
    typer.echo(
        json.dumps(document, indent=2)
        if as_json
        else f"{work.waiting:,} draws to judge, {work.done:,} judged before"
    )


def _report(now: Step, done: int, total: int) -> None:
    now.total = total
    now.advance(done - now.done)


def _print(result: Rejudged) -> None:
    from rich import box
    from rich.text import Text

    from tailbound.cli.render.bound import console
    from tailbound.cli.render.risk import number
    from tailbound.cli.terminal import SafeTable, show_table

    out = console()
    out.print(
        f"old: {visible(result.recorded_judge)}, unsafe from {result.recorded_threshold:g}\n"
        f"new: {visible(result.judge)}, unsafe from {result.threshold:g}",
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
        "agree, where both have one",
        *("-" if found.share is None else f"{found.share:.2%}" for _, found in shown),
    )
    show_table(out, table)
    for reason, draws in result.missing_reasons:
        out.print(Text(visible(f"no verdict on {draws:,}: {reason}")), soft_wrap=True)
    for stream in result.streams:
        for rate in stream.rates:
            share = "not known" if rate.rate is None else number(rate.rate)
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
