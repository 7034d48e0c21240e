"""Rewordings as people read of them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tailbound.cli.render.bound import console
from tailbound.core.outside import visible
from tailbound.terminal.safe import SafeTable

if TYPE_CHECKING:
    from tailbound.workflows.paraphrase.result import Paraphrased

_WORDS = {
    "duplicate": "the same as another",
    "off_meaning": "off the meaning",
    "refusal": "refusals",
    "empty": "empty",
    "cut": "cut at the length limit",
    "withheld": "kept back, or thinking alone",
    "too_long": "too long for a rewording",
    "no_question": "no question, where the query is one",
    "hidden_characters": "hidden characters",
}


def paraphrased(result: Paraphrased, *, out: Console | None = None) -> None:
    """Print what became of the replies, and the command that comes next."""
    out = out or console()
    facts = SafeTable.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("file", result.file)
    facts.add_row("model", f"{result.target}, temperature {result.temperature:g}")
    wanted = result.count * len(result.queries)
    facts.add_row(
        "rewordings", f"{result.kept:,} of {wanted:,} wanted, of {len(result.queries):,} queries"
    )
    facts.add_row("replies", f"{result.asked:,} asked for")
    for name, number in result.rejected().items():
        facts.add_row("  left out", f"{number:,} {_WORDS[name]}")
    if result.encoder is not None:
        facts.add_row("meaning", f"similarity of at least {result.min_similarity:g}")
    else:
        facts.add_row("meaning", "not checked")
    out.print(Panel(facts, title="rewordings", box=box.ROUNDED, expand=True))
    # notices have said what is missing
    where = visible(shlex.quote(result.file))
    out.print(
        Text(f"next: tailbound risk {where} --target TARGET --judge JUDGE --out FOLDER"),
        soft_wrap=True,
    )
