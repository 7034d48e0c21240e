"""Consoles and tables: nothing that others wrote reaches it raw.

Prompts, responses, names, reasons and errors of servers may hold escape sequences, line breaks and
characters that turn the writing around. They are shown as Python source would write them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from tailbound.core.outside import visible


class SafeConsole(Console):
    """A console whose text never holds anything that a terminal acts upon, line breaks aside.

    A line break in a text of others cannot be distinguished from one of ours here: `visible` is for
    that, and for tables `SafeTable`.
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


WIDEST = 10_000
LEAST_NAME = 14
"""Columns that the names of a table's rows get at least."""


def show_table(out: Console, table: Table) -> None:
    """Print a table whose first column names its rows, so that no two names look alike.

    Where nobody looks at a terminal, a file or a pipe, every cell is written in full.
    """
    names = table.columns[0]
    whole = [cell.plain if isinstance(cell, Text) else str(cell) for cell in names.cells]
    if not out.is_terminal:
        names.max_width = None
    options = out.options.update(max_width=WIDEST)
    expand, table.expand = table.expand, False  # or it takes all there is
    needed = Measurement.get(out, options, table).maximum
    if out.is_terminal:
        widest = max(map(cell_len, whole), default=0)
        room = max(LEAST_NAME, out.width - (needed - widest), names.min_width or 0)
        room = min(room, names.max_width or room)
        names._cells = [Text(name) for name in distinct(whole, room)]
        table.expand = expand
        out.print(table)
    else:
        width = out.width
        out.width = max(width, needed)
        out.print(table)
        out.width = width


def distinct(names: Sequence[str], width: int) -> list[str]:
    """`names` in at most `width` columns, shortened in the middle; different ones stay different.

    >>> distinct(["prompt-about-cats-001", "prompt-about-cats-002", "short"], 12)
    ['prompt…s-001', 'prompt…s-002', 'short']
    """
    wanted = len(set(names))
    for tail in range(width // 2 - 1, width - 1):
        found = [_middle(name, width, tail) for name in names]
        if len(set(found)) == wanted:
            return found
    numbers: dict[str, int] = {}
    for name in names:
        numbers.setdefault(name, len(numbers) + 1)
    digits = len(str(len(numbers)))
    cut = width - digits - 2
    return [
        name
        if cell_len(name) <= width and found.count(name) == 1
        else f"{set_cell_size(name, cut).rstrip()}…#{numbers[name]}"
        for name in names
    ]


def _middle(name: str, width: int, tail: int) -> str:
    """`name` with its last `tail` columns, and as many of its first as fit."""
    if cell_len(name) <= width:
        return name
    head = chop_cells(name, width - 1 - tail)[0] if width - 1 - tail > 0 else ""
    end = chop_cells(name[::-1], tail)[0][::-1] if tail > 0 else ""
    return f"{head}…{end}"
