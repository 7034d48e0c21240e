"""How figures of studies are drawn: by matplotlib as SVG, the same bytes for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "tailbound",
    "svg.fonttype": "path",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
DESIGNS: dict[str, tuple[str, str, str]] = {
    "naive": ("#999999", "x", ":"),
    "basic": ("#E69F00", "v", ":"),
    "trimmed": ("#D55E00", "^", "--"),
    "optimized": ("#CC79A7", "s", "--"),
    "balanced": ("#0072B2", "o", "-"),
}
"""Colour, marker and line of each design of a bound; colours of Okabe and Ito."""
_SIZE = (7.0, 4.4)
"""Inches, at 100 pixels each."""
_MOST_OF_EACH = 1_000
"""Largest over smallest number of an axis that has labels at 1, 2 and 5 of each power of 10."""


def svg(draw: Callable[[Axes], None]) -> bytes:
    """The figure that `draw` puts on one pair of axes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=_SIZE, dpi=100, facecolor="white", layout="constrained")
        draw(figure.add_subplot())
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def plain_numbers(axes: Axes, side: str) -> None:
    """1,000 rather than 10 to the power of 3; labels at 1, 2 and 5, or 1 alone in a long row."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if side == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    crowded = side == "x" and high > _MOST_OF_EACH * low
    axis.set_major_locator(LogLocator(subs=(1.0,) if crowded else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
