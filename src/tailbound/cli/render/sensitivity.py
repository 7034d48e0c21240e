"""Sensitivity to rewording as people read it."""

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
    from tailbound.workflows.sensitivity.result import SensitivityResult

_SHOWN = 10


def sensitivity(result: SensitivityResult, *, out: Console | None = None) -> None:
    """Print how far wordings differ, and the groups in which they differ most."""
    out = out or console()
    out.print(Panel(_facts(result), title="sensitivity", box=box.ROUNDED, expand=True))
    out.print(_groups(result))
    for warning in result.warnings:
        out.print(Text(f"warning: {visible(warning)}", style="bold"))
    out.print(Text(f"{result.guarantee[0].upper()}{result.guarantee[1:]}.", style="dim"))


def _facts(result: SensitivityResult) -> Table:
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("what", result.what)
    wordings = sum(one.wordings for one in result.groups)
    known = f"{wordings:,} wordings of {len(result.groups):,}"
    if result.alone:
        known += f"; {result.alone:,} without a group left out"
    facts.add_row("queries", known)
    found = result.components
    if found is None:
        return facts
    level = f"{100 * found.confidence:g}%"
    for name, value, ends in (
        ("sd within queries", found.within, found.within_interval),
        ("sd between queries", found.between, found.between_interval),
    ):
        low, high = (end**0.5 for end in ends)
        facts.add_row(name, f"{value**0.5:.2g} in log10 p ({level}: {low:.2g} to {high:.2g})")
    if found.share is not None and found.share_interval is not None:
        low, high = (100 * end for end in found.share_interval)
        facts.add_row(
            "due to wording", f"{100 * found.share:.3g}% of the variance ({low:.3g} to {high:.3g})"
        )
    return facts


def _groups(result: SensitivityResult) -> SafeTable:
    title = "Largest differences between wordings"
    table = SafeTable(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("query", max_width=20, no_wrap=True, overflow="ellipsis")
    table.add_column("wordings", justify="right", no_wrap=True)
    table.add_column("worst wording", max_width=18, no_wrap=True, overflow="ellipsis")
    for name in ("p", "best p", "times"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in result.groups[:_SHOWN]:
        count = f"{one.wordings:,}"
        if one.unresolved:
            count += f" ({one.unresolved:,} open)"
        times = "-" if one.spread is None else f"{10**one.spread:.3g}"
        table.add_row(
            visible(one.group),
            count,
            "-" if one.worst is None else visible(one.worst),
            _n(one.worst_p),
            _n(one.best_p),
            times,
        )
    return table


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
