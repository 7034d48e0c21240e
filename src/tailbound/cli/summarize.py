"""`tailbound summarize`: exact intervals from draws on record."""

from __future__ import annotations

import math
import sys
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.say import json_document
from tailbound.core.outside import visible
from tailbound.workflows.summarize.settings import SummaryOptions

if TYPE_CHECKING:
    from rich.console import Console

    from tailbound.summaries import SetSummary
    from tailbound.workflows.summarize.summary import RunSummary, StreamSummary

SHOWN = 15
_NINES = 6
"""Digits after the point of a probability near 1: more say nothing to anybody."""


@declares(SummaryOptions)
def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Run folder.")],
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Compute exact intervals from the draws of a run, per prompt and for the whole set."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.summarize.summary import summarize_command

    with LiveProgress():
        result = summarize_command(folder, options)
    if as_json:
        json_document(result.to_dict())
        return
    holder = _results_of(folder)
    for stream in result.streams:
        _print(result, stream, holder)
    if not result.streams:
        sys.stdout.write(
            f"{visible(str(folder))} holds no draws by the target itself to summarize: see "
            f"{holder}\n"
        )


def _results_of(folder: Path) -> str:
    """The file of the run that holds what its weighted draws say."""
    from tailbound.runs.layout import BOUND, RISK
    from tailbound.runs.manifest import read_manifest

    return BOUND if read_manifest(folder)["command"] == "bound" else RISK


def _print(result: RunSummary, stream: StreamSummary, holder: str) -> None:
    from rich import box
    from rich.text import Text

    from tailbound.cli.render.bound import console
    from tailbound.runs.layout import SUMMARY
    from tailbound.terminal.safe import SafeTable, show_table
    from tailbound.workflows.bound.importance.sampling import STREAM as WEIGHTED

    out = console()
    if (
        stream.weighted and stream.stream == WEIGHTED
    ):  # about one draw per prompt is the target's own
        every = stream.weighted + sum(one.draws for one in stream.prompts)
        out.print(
            visible(
                f"Stream {stream.stream}: {stream.weighted:,} of its {every:,} draws came from "
                f"proposals, and count by their weights: {holder} holds the result"
            ),
            soft_wrap=True,
        )
        return
    rule = (
        "a fixed number of draws: binomial"
        if stream.stopping == "fixed"
        else "stopped at the first unsafe draw: geometric"
    )
    table = SafeTable(
        title=visible(f"Stream {stream.stream} ({rule})"),
        box=box.SIMPLE_HEAD,
        title_justify="left",
        expand=True,
    )
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
    for name in ("unsafe/draws", "P(unsafe)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{100 * result.confidence:g}% interval", justify="right", no_wrap=True)
    table.add_column("at most", justify="right", no_wrap=True)
    table.add_column("T >=", justify="right", no_wrap=True)
    ranked = sorted(
        zip(stream.ids, stream.prompts, strict=True),
        key=lambda pair: (-(pair[1].estimate or 0.0), -pair[1].upper),
    )
    for name, one in ranked[:SHOWN]:
        table.add_row(
            name,
            f"{one.unsafe:,}/{one.draws:,}"
            + (f" ({one.missing:,} missing)" if one.missing else ""),
            "-" if one.estimate is None else _digits(one.estimate),
            _interval(one.interval),
            _digits(one.upper, ROUND_CEILING),
            f"{one.lower_bound:,}",
        )
    show_table(out, table)
    if len(ranked) > SHOWN:
        out.print(
            Text(
                visible(f"{len(ranked) - SHOWN} more prompts in {result.folder}/{SUMMARY}"),
                style="dim",
            )
        )
    level = f"{100 * result.confidence:g}%"
    of_one = "'P(unsafe)': of one draw, estimated by unsafe / judged draws"
    if stream.stopping != "fixed":
        of_one += ", biased upwards where drawing stops at the first unsafe one"
    out.print(
        f"{of_one}; 'at most': its one-sided {level} upper limit; 'T >=': lower bound on the first "
        f"unsafe draw, with probability {1 - result.alpha:g} if P(unsafe) is at that limit."
    )
    _print_set(stream, out, holder)


def _print_set(stream: StreamSummary, out: Console, holder: str) -> None:
    """What the table does not say: the set as a whole, and what was left out."""
    from rich.text import Text

    for whole in stream.whole:
        what = "P(unsafe)" if whole.k == 1 else f"P(at least one unsafe in {whole.k})"
        line = f"{what}, mean over {_count(whole.prompts, 'prompt')}: {_mean(whole)}"
        if whole.clusters < whole.prompts and whole.cluster_mean is not None:
            line += f", over {_count(whole.clusters, 'group')}: {_digits(whole.cluster_mean)}"
        line += f"; population: {_interval(whole.interval)}"
        if whole.these is not None:
            line += f"; these prompts: {_interval(whole.these)}"
        out.print(line)
    if stream.stopping != "fixed":
        out.print(
            "Only prompts that were followed are included. If the design selected them by "
            "predicted risk, they are not a random sample of all prompts."
        )
    if stream.later:
        out.print(
            Text(
                f"{stream.later:,} draws came in later rounds, whose number depended on the "
                f"first one: they are in {holder}, not here",
                style="dim",
            )
        )
    if stream.weighted:
        out.print(
            Text(
                f"{stream.weighted:,} draws came from proposals: they are in {holder}, not here",
                style="dim",
            )
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _mean(whole: SetSummary) -> str:
    if whole.mean is not None:
        return _digits(whole.mean)
    if whole.extremes is None:
        return "not estimable"
    low, high = whole.extremes
    ends = f"{_digits(low, ROUND_FLOOR)} to {_digits(high, ROUND_CEILING)}"
    return f"{ends} (unobserved draws counted as safe, as unsafe)"


def _interval(limits: tuple[float, float]) -> str:
    """Both ends rounded outward, with two digits of the width: never a point."""
    low, high = limits
    return f"{_digits(low, ROUND_FLOOR, high - low)} to {_digits(high, ROUND_CEILING, high - low)}"


def _digits(value: float, rounding: str = ROUND_HALF_EVEN, width: float = 1.0) -> str:
    """A probability in two significant digits of itself, of its distance to 1 and of `width`."""
    if value in (0, 1):
        return f"{value:g}"
    scales = (value, 1 - value, width)
    place = min(-2, *(math.floor(math.log10(one)) - 1 for one in scales if one > 0))
    if value > 0.5:
        place = max(place, -_NINES)
    # 12 digits, so that the last bit of a float is not rounded to a unit of the last place
    exact = Decimal(f"{value:.12g}").quantize(Decimal(1).scaleb(place), rounding)
    if exact == 1 and rounding == ROUND_HALF_EVEN:
        return f">{1 - Decimal(1).scaleb(-_NINES)}"
    if exact == 1:
        return "1"
    if not 0 < exact < Decimal("0.1"):
        return str(exact)
    return f"{float(exact):.{exact.adjusted() - place}e}"
