"""A study on the terminal: what each method takes, and where the rest stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box

from tailbound.cli.render.bound import console, next_step
from tailbound.terminal.safe import SafeTable, show_table
from tailbound.workflows.reproduce.folder import README
from tailbound.workflows.reproduce.readme import estimate_rows, method_rows, share_rows
from tailbound.workflows.reproduce.realtoxicity.readme import run_rows
from tailbound.workflows.reproduce.synthetic.readme import summary_rows

if TYPE_CHECKING:
    from rich.console import Console

    from tailbound.workflows.reproduce.realtoxicity.results import CompletionResult
    from tailbound.workflows.reproduce.results import StudyResult
    from tailbound.workflows.reproduce.synthetic.results import SyntheticResult


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


def synthetic(result: SyntheticResult, folder: Path, out: Console | None = None) -> None:
    """Print the table of the synthetic study."""
    head, rows = summary_rows(result)
    kept = [number for number, name in enumerate(head) if name not in ("P(T > L)", "planned")]
    _table(
        out or console(),
        [head[number] for number in kept],
        [[row[number] for number in kept] for row in rows],
        title=f"bounds at coverage {1 - result.alpha:g}, known risks",
    )
    next_step(f"read {folder / README}")


def completions(result: CompletionResult, folder: Path, out: Console | None = None) -> None:
    """Print the table of the study of completions."""
    head, rows = run_rows(result)
    kept = [number for number, name in enumerate(head) if name not in ("limited by", "planned")]
    _table(
        out or console(),
        [head[number] for number in kept],
        [[row[number] for number in kept] for row in rows],
        title=f"bounds on {result.prompts['test']:,} test prompts",
    )
    next_step(f"read {folder / README}")


def _table(out: Console, head: list[str], rows: list[list[str]], *, title: str) -> None:
    table = SafeTable(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    show_table(out, table)
