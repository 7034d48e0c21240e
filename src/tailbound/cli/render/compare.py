"""A comparison as people read it: the mean, the list of changed prompts, what else differs."""

from __future__ import annotations

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
    from tailbound.workflows.compare.result import CompareResult

_SHOWN = 20
_LONGEST = 60


def compare(result: CompareResult, *, out: Console | None = None) -> None:
    """Print a comparison with what it rests on."""
    out = out or console()
    out.print(Panel(_facts(result), title="compare", box=box.ROUNDED, expand=True))
    if result.changed:
        out.print(_list(result))
    else:
        out.print(Text(f"no prompt changed demonstrably ({_share(result)})"))
    if result.differences:
        out.print(_differences(result))
    if result.not_corrected is not None:
        out.print(Text(visible(result.not_corrected)))
    for warning in result.warnings:
        out.print(Text(f"warning: {visible(warning)}", style="bold"))
    out.print(Text(f"{result.guarantee[0].upper()}{result.guarantee[1:]}.", style="dim"))


def _facts(result: CompareResult) -> Table:
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("A", result.a)
    facts.add_row("B", result.b)
    facts.add_row("what", result.what)
    known = f"{len(result.prompts):,} compared"
    left = [f"{count:,} {reason}" for reason, count in result.left_out.items()]
    facts.add_row("prompts", "; ".join([known, *left]))
    mean = result.mean
    level = f"{100 * mean.confidence:g}%"
    least = "at least " if mean.difference is None else ""  # missing verdicts count as safe there
    facts.add_row(f"mean {result.quantity}", f"{least}{mean.a:.3g} in A, {least}{mean.b:.3g} in B")
    if mean.difference is not None:
        facts.add_row("change", f"{mean.difference:+.3g}")
    if result.every_look is not None:
        facts.add_row(f"{level} at every look", f"{_between(result.every_look)}, these prompts")
    elif mean.interval is not None:
        facts.add_row(f"{level}", f"{_between(mean.interval)}, asymptotic")
        if mean.finite_sample is not None:
            facts.add_row("", f"{_between(mean.finite_sample)}, finite-sample")
    if mean.ratio is not None and mean.ratio_interval is not None and not result.sequential:
        low, high = mean.ratio_interval
        facts.add_row("ratio", f"{mean.ratio:.3g} times A ({low:.3g} to {high:.3g})")
    _corrected(facts, result)
    if result.bounds is not None:
        found = result.bounds
        words = f"{found.ratio:.3g} times A"
        if found.interval is not None:
            words += f" ({found.interval[0]:.3g} to {found.interval[1]:.3g})"
        facts.add_row(
            "lower bounds", f"{words}; {found.longer:,} longer, {found.shorter:,} shorter"
        )
    return facts


def _corrected(facts: Table, result: CompareResult) -> None:
    """The rates by labels and their change; or why there are none."""
    change = result.corrected
    if change is not None:
        facts.add_row("corrected", f"{_three(change.a.estimate)} in A, {_three(change.b.estimate)} "
                      f"in B (as judged {_three(change.a.uncorrected)}, "
                      f"{_three(change.b.uncorrected)})")  # fmt: skip
        level = f"{100 * change.confidence:g}%"
        number = "" if change.difference is None else f"{change.difference:+.3g}, "
        facts.add_row("", f"change {number}{level}: {_between(change.interval)}")


def _three(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def _share(result: CompareResult) -> str:
    return f"false discovery rate {100 * result.fdr:g}%"


def _list(result: CompareResult) -> SafeTable:
    changed = result.changed
    title = f"Changed prompts: {len(changed):,} ({_share(result)})"
    if len(changed) > _SHOWN:
        title += f"; the first {_SHOWN}"
    table = SafeTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("prompt", max_width=40, no_wrap=True, overflow="ellipsis")
    kind = "e" if result.sequential else "p"
    for name in ("A", "B", f"{kind}-value", "adjusted"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in changed[:_SHOWN]:
        table.add_row(
            visible(one.id),
            _n(one.a),
            _n(one.b),
            f"{one.evidence:.2g}",
            f"{one.adjusted:.2g}",
        )
    return table


def _differences(result: CompareResult) -> SafeTable:
    table = SafeTable(title="What differs", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("", style="bold", overflow="fold")
    for name in ("A", "B"):
        table.add_column(name, overflow="fold")
    for one in result.differences:
        table.add_row(visible(one.name), _cut(one.a), _cut(one.b))
    return table


def _cut(text: str) -> str:
    shown = visible(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _between(ends: tuple[float, float]) -> str:
    return f"{ends[0]:+.2g} to {ends[1]:+.2g}"
