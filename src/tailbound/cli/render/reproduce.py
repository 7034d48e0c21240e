"""A study on the terminal: what each method takes, and where the rest stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box

from tailbound.cli.render.bound import console, next_step
from tailbound.terminal.safe import SafeTable, show_table
from tailbound.workflows.reproduce.folder import README
from tailbound.workflows.reproduce.readme import estimate_rows, method_rows, share_rows

if TYPE_CHECKING:
    from rich.console import Console

    from tailbound.workflows.reproduce.results import StudyResult


def study(result: StudyResult, folder: Path, out: Console | None = None) -> None:
    """Print the tables of a study."""
    out = out or console()
    wanted = f"{100 * result.wanted:g} %"
    head, rows = method_rows(result)
    shown = [*head[:6], head[6]]
    _table(out, shown, [row[: len(shown)] for row in rows], title=f"for {wanted} relative error")
    if result.shares:
        _table(out, *share_rows(result), title="prompts with at least one unsafe output")
    else:
        _table(out, *estimate_rows(result), title=f"estimates from {result.most:,} draws")
    next_step(f"read {folder / README}")


def _table(out: Console, head: list[str], rows: list[list[str]], *, title: str) -> None:
    table = SafeTable(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    show_table(out, table)
