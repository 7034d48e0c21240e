"""A run folder as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tailbound.cli.render.bound import console, next_step
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.workflows.show import EarlierResult, Overview, RunOverview, ShownResult


def overview(found: Overview, *, out: Console | None = None) -> None:
    """Print what a folder holds."""
    out = out or console()
    for number, run in enumerate(found.runs):
        if number:
            out.print()
        _run(run, out)


def _run(run: RunOverview, out: Console) -> None:
    facts = _grid()
    facts.add_row("command", f"tailbound {run.command}, last started {_date(run.started)}")
    facts.add_row("target", run.target)
    facts.add_row("judge", f"{run.judge}, unsafe from a score of {run.threshold:g}")
    facts.add_row("contract", f"{run.contract} ({run.contract_digest})")
    facts.add_row("versions", _versions(run.versions))
    for one in run.streams:
        words = f"{one.draws:,} draws of {one.prompts:,} prompts, {one.tokens:,} tokens"
        facts.add_row(f"draws {one.stream}", words + _lost(one.missing))
    for result in run.results:
        facts.add_row(*_result(result))
    title = Text(visible(run.folder), overflow="ellipsis", no_wrap=True)
    out.print(Panel(facts, title=title, box=box.ROUNDED, expand=True))
    if run.earlier:
        _earlier(run.earlier, out)
    if run.missing:
        out.print(Text("Missing", style="bold"))
        lines = _grid()
        for line in run.missing:
            lines.add_row("-", line)
        out.print(lines)
    next_step(run.next)


def _grid() -> SafeTable:
    found = SafeTable.grid(padding=(0, 2))
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    return found  # type: ignore[return-value]


def _result(one: ShownResult) -> tuple[str, Text]:
    head = [] if one.judge is None else [f"by {one.judge}"]
    text = Text(visible("; ".join([*head, *one.numbers])))
    if one.guarantee:
        text.append(f" ({visible(one.guarantee)})", style="dim")
    text.append(visible(f" [{_date(one.date)}{one.file}]"), style="dim")
    return one.name, text


def _earlier(several: Sequence[EarlierResult], out: Console) -> None:
    out.print(Text("Earlier results", style="bold"))
    lines = _grid()
    for one in several:
        head = [] if one.judge is None else [f"by {one.judge}"]
        text = Text(visible("; ".join([*head, *one.numbers])))
        if one.differs:
            text.append(visible(f" ({'; '.join(one.differs)})"), style="dim")
        text.append(visible(f" [{_date(one.date)}{one.file}]"), style="dim")
        lines.add_row(one.name, text)
    out.print(lines)


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _lost(missing: int) -> str:
    return f", {missing:,} without a verdict" if missing else ""


def _date(value: str | None) -> str:
    """The minute, in UTC."""
    return "" if value is None else f"{value[:16].replace('T', ' ')} UTC "
