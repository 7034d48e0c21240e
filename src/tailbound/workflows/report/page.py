"""What a page says, as plain values: sections of blocks, which every format renders in its way.

Texts are plain, never markup, and may come from outside: a format escapes all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.workflows.report.figures.chart import Chart

Kind = Literal["text", "count", "number", "probability", "interval", "status"]
Cell = str | int | float | None | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A few sentences. `weight`: "main" for an answer, "fine" for what qualifies it.

    `lead` are words that begin it and stand out.
    """

    text: str
    lead: str = ""
    weight: Literal["main", "plain", "fine", "warning"] = "plain"


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What the blocks that follow are about."""

    text: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Links:
    """Where to read more: (text, address) pairs."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Labelled values."""

    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A small table of finished texts; `numbers` are the columns that are set flush right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, and the same numbers as a table for those who cannot see it."""

    name: str
    chart: Chart
    caption: str
    table: Table


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a `Browser`; `help` is what its heading means."""

    key: str
    label: str
    kind: Kind
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The logarithmic scale that every row of a `Browser` is drawn on.

    `mark` is the column of the mark, `ends` those of its interval; `label` says what it is.
    """

    label: str
    low: float
    high: float
    mark: str
    ends: str | None = None


@dataclass(frozen=True, kw_only=True)
class Browser:
    """A long table: sorted, searched, filtered and paged where the format can.

    `rows` have one cell per column, `prompts` the text that stands for each row's first column
    (None where it is not known); `total` counts the rows that there would be without a limit.
    `status` is the column whose values can be chosen.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    prompts: tuple[str | None, ...]
    total: int
    scale: Scale | None
    filters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """One unsafe response, of a draw of one prompt."""

    title: str
    prompt: str
    response: str


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Unsafe responses, each behind a click."""

    items: tuple[Example, ...]


Block = Paragraph | Heading | Links | Facts | Table | Figure | Browser | Examples


@dataclass(frozen=True, kw_only=True)
class Section:
    """One heading and what stands under it; `id` is what links name."""

    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True)
class RunPart:
    """Everything about one run alone."""

    id: str
    name: str
    subtitle: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole page: the answers of all runs, their prompts, then each run, then the method.

    `progress` stands before the answers where runs are not finished and the page is served.
    """

    title: str
    subtitle: str
    answers: Section
    prompts: tuple[Section, ...]
    runs: tuple[RunPart, ...]
    method: Section
    progress: Section | None = None

    @property
    def first(self) -> tuple[Section, ...]:
        """The sections about all runs, but for the method."""
        before = () if self.progress is None else (self.progress,)
        return (*before, self.answers, *self.prompts)

    @property
    def sections(self) -> tuple[Section, ...]:
        """All of them, in order."""
        own = [section for run in self.runs for section in run.sections]
        return (*self.first, *own, self.method)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures, in order."""
        return tuple(
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Figure)
        )
