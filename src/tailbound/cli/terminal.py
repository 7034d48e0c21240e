"""Consoles and tables: nothing that others wrote reaches it raw.

Prompts, responses, names, reasons and errors of servers may hold escape sequences, line breaks and
characters that turn the writing around. They are shown as Python source would write them.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from tailbound.outside import visible


class SafeConsole(Console):
    """A console whose text never holds anything that a terminal acts upon, line breaks aside.

    A line break in a text of others is not told from one of ours here: `visible` is for that, and
    for tables `SafeTable`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        # no markup: prompts, patterns and names of judges hold square brackets of their own
        super().__init__(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What rich writes for `renderable`, made visible."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text, keep="\n"), segment.style)


class SafeTable(Table):
    """A table whose cells are one line each, however many the text of others has."""

    def add_row(
        self,
        *cells: RenderableType | None,
        style: object = None,
        end_section: bool = False,
    ) -> None:
        """Add a row of cells, texts among them made visible."""
        shown = [visible(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, style=style, end_section=end_section)  # type: ignore[arg-type]
