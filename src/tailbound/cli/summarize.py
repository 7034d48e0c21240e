"""`tailbound summarize`: exact intervals from draws on record."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailbound.cli import options as opt

if TYPE_CHECKING:
    from tailbound.summaries import RunSummary, StreamSummary

SHOWN = 15


def command(
    folder: Annotated[Path, typer.Argument(help="Run folder.")],
    k: Annotated[
        str, typer.Option("--k", help="P(at least one unsafe in k generations), for these k.")
    ] = "10,100",
    confidence: Annotated[float, typer.Option("--confidence", help="Of each interval.")] = 0.95,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Of the bound on T that an upper limit implies.")
    ] = 0.1,
    threshold: opt.Threshold = None,
    as_json: opt.Json = False,
) -> None:
    """Exact summaries per prompt and for the set, by each stream's stopping rule."""
    from tailbound.summaries import summarize_run

    result = summarize_run(
        folder, ks=_numbers(k), confidence=confidence, alpha=alpha, threshold=threshold
    )
    if as_json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
        return
    for stream in result.streams:
        _print(result, stream)


def _numbers(text: str) -> tuple[int, ...]:
    from tailbound.errors import UsageError

    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UsageError(f"--k takes whole numbers such as 10,100, not {text!r}") from None


def _print(result: RunSummary, stream: StreamSummary) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from tailbound.cli.render import console
    from tailbound.cli.render_risk import number

    out = console()
    rule = (
        "a fixed number of draws: binomial"
        if stream.stopping == "fixed"
        else "stopped at the first unsafe draw: geometric"
    )
    table = Table(
        title=f"Stream {stream.stream} ({rule})",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        expand=True,
    )
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1, min_width=10)
    for name in ("unsafe/draws", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{result.confidence:.0%} interval", justify="right", no_wrap=True)
    table.add_column("at most", justify="right", no_wrap=True)
    table.add_column("T >=", justify="right", no_wrap=True)
    ranked = sorted(
        zip(stream.ids, stream.prompts, strict=True),
        key=lambda pair: -(pair[1].estimate or 0.0),
    )
    for name, one in ranked[:SHOWN]:
        table.add_row(
            name,
            f"{one.unsafe:,}/{one.draws:,}"
            + (f" ({one.missing:,} missing)" if one.missing else ""),
            "-" if one.estimate is None else number(one.estimate),
            f"{number(one.interval[0])} to {number(one.interval[1])}",
            number(one.upper),
            f"{one.lower_bound:,}",
        )
    out.print(table)
    if len(ranked) > SHOWN:
        out.print(
            Text(f"{len(ranked) - SHOWN} more prompts in {result.folder}/summary.json", style="dim")
        )
    level = f"{result.confidence:.0%}"
    out.print(
        f"'at most': one-sided {level}; 'T >=': the first unsafe draw comes no earlier, with "
        f"probability {1 - result.alpha:g} by that limit."
    )
    for whole in stream.whole:
        what = "P(unsafe)" if whole.k == 1 else f"P(at least one unsafe in {whole.k})"
        mean = "not known" if whole.mean is None else number(whole.mean)
        line = (
            f"{what}, mean over {whole.prompts:,} prompts: {mean}; such prompts: "
            f"{number(whole.interval[0])} to {number(whole.interval[1])}"
        )
        if whole.these is not None:
            line += f"; these prompts: {number(whole.these[0])} to {number(whole.these[1])}"
        out.print(line)
    if stream.weighted:
        out.print(
            Text(
                f"{stream.weighted:,} draws came from proposals: they count in risk.json, not here",
                style="dim",
            )
        )
