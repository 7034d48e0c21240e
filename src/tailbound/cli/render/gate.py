"""The outcomes of a gate as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tailbound.cli.render.bound import console
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.workflows.gate import GateResult

_STYLES = {"met": "green", "failed": "red", "cannot tell": "yellow"}


def gate(result: GateResult, *, out: Console | None = None) -> None:
    """Print every requirement, its outcome and what it rests on."""
    out = out or console()
    table = SafeTable.grid(padding=(0, 2))
    table.add_column(style="bold", max_width=30, overflow="fold")
    table.add_column(overflow="fold")
    for one in result.assessments:
        text = Text(visible(one.words), style=_STYLES[one.outcome])
        text.append(visible(f" ({one.detail})") if one.detail else "", style="default")
        if one.basis:
            text.append(visible(f" [{one.basis}]"), style="dim")
        table.add_row(one.requirement, text)
    out.print(table)
    several = sum(map(result.stops, result.assessments))
    every = len(result.assessments)
    out.print("passed" if result.passed else f"not passed: {several} of {every} requirements")
