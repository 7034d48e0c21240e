"""What a figure shows, as plain values; `svg` draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ink = Literal["accent", "ink", "muted"]
"""Which of the three colours of a page."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A numeric axis; `log` has powers of ten. `share` writes ticks as per cent."""

    label: str
    low: float
    high: float
    log: bool = False
    share: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through (x, y), in steps (holding each y to the next x) or straight."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    ink: Ink = "accent"
    steps: bool = False
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Band:
    """The area between `low` and `high` over x."""

    label: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    steps: bool = False


@dataclass(frozen=True, kw_only=True)
class Points:
    """Marks with what the pointer reads over each (`titles`); `ends` are upright intervals."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    titles: tuple[str, ...]
    ends: tuple[tuple[float, float], ...] | None = None
    ink: Ink = "accent"
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A straight line over the whole figure, at one value of y (or of x in `Rows`)."""

    label: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Lines and points over two numeric axes."""

    title: str
    description: str
    x: Axis
    y: Axis
    bands: tuple[Band, ...] = ()
    lines: tuple[Line, ...] = ()
    points: tuple[Points, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One named row: a bar to `value`, or with `ends` a mark at it with an interval.

    `part` of a bar is drawn over it in the accent.
    """

    name: str
    value: float
    title: str
    ends: tuple[float, float] | None = None
    part: float | None = None
    ink: Ink = "accent"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Named rows over one numeric axis; `key` says what a bar and its part are."""

    title: str
    description: str
    x: Axis
    rows: tuple[Row, ...]
    rules: tuple[Rule, ...] = ()
    key: tuple[str, str] | None = None


Chart = Plot | Rows
