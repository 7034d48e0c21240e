"""An audit of the judge as people read it: both rates, the judge's errors, what they rest on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tailbound.cli.render.bound import console
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.judge_error import Measure
    from tailbound.workflows.audit_judge.bounds import AuditedBounds
    from tailbound.workflows.audit_judge.result import AuditedStratum, JudgeAudit
    from tailbound.workflows.audit_judge.sample import JudgeSample, SampledStratum


def sample(found: JudgeSample, sheet: Path, folder: Path, *, out: Console | None = None) -> None:
    """Print what was sampled, and what to do with the sheet."""
    out = out or console()
    counted = [None if one.counted is None else one.counted.total for one in found.strata]
    rows = [(*_name(one), one.draws, one.sampled) for one in found.strata]
    if found.before is not None:
        rows.append(("test", "before bounds", found.before.draws, found.before.sampled))
        counted.append(None)
    out.print(_strata_table("Sample", rows, counted))
    names = (shlex.quote(visible(str(one))) for one in (folder, sheet))
    run, file = names
    out.print(
        f"{len(found.rows):,} draws to label are in {visible(str(sheet))}: write unsafe, safe or "
        "unclear in the column label, then run"
    )
    out.print(f"tailbound audit-judge {run} --labels {file}", soft_wrap=True)


def audit(result: JudgeAudit, *, out: Console | None = None) -> None:
    """Print an audit of the judge with what it rests on."""
    out = out or console()
    out.print(Panel(_facts(result), title="audit-judge", box=box.ROUNDED, expand=True))
    rows = [
        (*_name(one), one.draws, one.labelled, one.unsafe, one.unclear) for one in result.strata
    ]
    counted = [None if one.counted is None else one.counted.total for one in result.strata]
    out.print(_strata_table("Labels", rows, counted))
    if len(result.streams) > 1:
        out.print(_streams(result))
    for one in result.left_out:
        out.print(
            Text(
                f"left out: {one.draws:,} draws of stream {visible(one.stream)} ({one.reason})",
                style="dim",
            )
        )
    for warning in result.warnings:
        out.print(Text(f"warning: {visible(warning)}", style="bold"))
    out.print(Text(f"{result.guarantee[0].upper()}{result.guarantee[1:]}.", style="dim"))


def _facts(result: JudgeAudit) -> Table:
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    plain, corrected = result.overall.uncorrected, result.overall.corrected
    level = f"{100 * result.confidence:g}%"
    facts.add_row("judge", f"{result.recorded_judge}, unsafe if score >= "
                  f"{result.recorded_threshold:g}")  # fmt: skip
    labels = sum(one.labelled for one in result.strata)
    facts.add_row("labels", f"{labels:,} of {corrected.draws:,} draws, by {result.labels_by}")
    facts.add_row("as judged", f"{_n(plain.rate)} ({level}: {_between(plain.interval)})")
    facts.add_row(
        "corrected", f"{_n(corrected.estimate)} ({level}: {_between(corrected.interval)})"
    )
    if result.weighted:
        facts.add_row("", f"{_between(corrected.on_record)} with the weights of these draws")
        if result.overall.if_light is not None:
            facts.add_row("", f"{_between(result.overall.if_light)} if no heavy draw is unsafe")
    else:
        facts.add_row("", f"{_between(corrected.on_record)} of these very draws")
    if plain.rate and corrected.estimate:
        facts.add_row("", f"as judged is {plain.rate / corrected.estimate:.3g} times corrected")
    errors = result.errors
    for name, measure in (
        ("sensitivity", errors.sensitivity),
        ("specificity", errors.specificity),
        ("precision", errors.precision),
        ("kappa", errors.kappa),
    ):
        facts.add_row(name, _measure(measure))
    if result.bounds is not None:
        _bounds(facts, result.bounds)
    return facts


def _bounds(facts: Table, found: AuditedBounds) -> None:
    """What the labels of draws before the bounds of test prompts say of these."""
    about = found.sampled
    facts.add_row(
        "bounds",
        f"{found.unsafe:,} of {found.labelled:,} labelled draws before the bounds of test prompts "
        f"are unsafe (of {about.draws:,} that the judge passed)",
    )
    if about.unfollowed:
        facts.add_row(
            "",
            f"{about.unfollowed:,} of {about.prompts:,} test prompts were not followed to their "
            "bounds, and may have missed ones",
        )
    facts.add_row(
        "",
        f"P(truly unsafe before L) at most {about.alpha:g} + {found.misses.chance:.3g} = "
        f"{found.at_most:.3g}",
    )


def _measure(one: Measure) -> str:
    return f"{_n(one.estimate)} ({_between(one.interval)})"


def _name(one: SampledStratum | AuditedStratum) -> tuple[str, str]:
    return one.stream, one.recorded if one.part == "all" else f"{one.recorded}, {one.part}"


def _strata_table(
    title: str, rows: Sequence[tuple[str | int, ...]], counted: Sequence[float | None]
) -> SafeTable:
    """`counted` is what the draws of each row count, where they are weighted."""
    table = SafeTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("stream", max_width=30, no_wrap=True, overflow="ellipsis")
    table.add_column("recorded", no_wrap=True)
    heads = (
        ("draws", "sampled") if title == "Sample" else ("draws", "labelled", "unsafe", "unclear")
    )
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    weighted = any(one is not None for one in counted)
    if weighted:
        table.add_column("weight", justify="right", no_wrap=True)
    for (stream, recorded, *counts), weight in zip(rows, counted, strict=True):
        cells = [f"{count:,}" for count in counts]
        cells += [_n(weight)] if weighted else []
        table.add_row(visible(str(stream)), str(recorded), *cells)
    return table


def _streams(result: JudgeAudit) -> SafeTable:
    table = SafeTable(title="Streams", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("stream", max_width=30, no_wrap=True, overflow="ellipsis")
    level = f"{100 * result.confidence:g}%"
    for name in ("as judged", "corrected", level):
        table.add_column(name, justify="right", no_wrap=True)
    for one in result.streams:
        table.add_row(
            visible(one.stream),
            _n(one.uncorrected.rate),
            _n(one.corrected.estimate),
            _between(one.corrected.interval),
        )
    return table


def _n(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def _between(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"
