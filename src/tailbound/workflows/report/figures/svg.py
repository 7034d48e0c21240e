"""Charts as SVG: for a page, whose style sheet colours them, or for a file of its own.

Everything is text and plain shapes with classes; nothing is scripted, and the pointer reads the
`<title>` of a mark. The drawing has a title and a description for screen readers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from tailbound.core.outside import clean_text, visible
from tailbound.workflows.report.figures.chart import (
    Axis,
    Band,
    Chart,
    Line,
    Plot,
    Points,
    Row,
    Rows,
)
from tailbound.workflows.report.figures.scale import Scale, tick_text, ticks

WIDTH, HEIGHT = 560, 290
LEFT, RIGHT, TOP, BOTTOM = 60, 24, 12, 46
_LETTER = 7.6
"""Width of a letter at this size, about."""
_ROW = 24
_LONGEST = 34

STYLE = """
.chart{--ink:#1d2126;--muted:#59626d;--grid:#e3e6ea;--paper:#fff;--accent:#0b62a8}
.chart text{font:11.5px system-ui,sans-serif;fill:var(--muted)}
.chart .grid{stroke:var(--grid);stroke-width:1}
.chart .axis{stroke:var(--muted);stroke-width:1}
.chart .line{fill:none;stroke-width:2}
.chart .dashed{stroke-dasharray:6 4}
.chart .band{fill:var(--accent);opacity:.16}
.chart .whisker{stroke-width:1.5}
.chart .rule{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3}
.chart .s-accent{stroke:var(--accent)}.chart .s-ink{stroke:var(--ink)}
.chart .s-muted{stroke:var(--muted)}
.chart .f-accent{fill:var(--accent)}.chart .f-ink{fill:var(--ink)}
.chart .f-muted{fill:var(--muted)}.chart .hollow{fill:var(--paper);stroke-width:1.5}
"""
"""Of a page's figures; a page sets the colours by its scheme."""
_DARK = (
    "@media(prefers-color-scheme:dark){.chart{--ink:#e6e8eb;--muted:#a3acb6;--grid:#343a41;"
    "--paper:#15181c;--accent:#6cb2f0}}"
)


def draw(chart: Chart, *, name: str, alone: bool = False) -> str:
    """The `<svg>` of a chart; `name` makes its ids unique. `alone`: with its own style, to a file.

    Every text in `chart` is escaped.
    """
    body, height = _plot(chart) if isinstance(chart, Plot) else _rows(chart)
    style = f"<style>{STYLE}{_DARK}</style>" if alone else ""
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    paper = f'<rect width="{WIDTH}" height="{height}" fill="var(--paper)"/>' if alone else ""
    return (
        f'<svg{space} class="chart" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-about">'
        f'<title id="{name}-title">{_text(chart.title)}</title>'
        f'<desc id="{name}-about">{_text(chart.description)}</desc>{style}{paper}'
        + "".join(body)
        + "</svg>"
    )


def _plot(plot: Plot) -> tuple[list[str], int]:
    legend, depth = _legend(
        [("band", "accent", one.label) for one in plot.bands]
        + [("dashed" if one.dashed else "line", one.ink, one.label) for one in plot.lines]
        + [("hollow" if one.hollow else "dot", one.ink, one.label) for one in plot.points]
        + [("rule", "muted", one.label) for one in plot.rules]
    )
    height = HEIGHT + depth
    x = Scale(axis=plot.x, first=LEFT, last=WIDTH - RIGHT)
    y = Scale(axis=plot.y, first=height - BOTTOM, last=TOP + depth)
    body = [*legend, *_upright_grid(x, y), *_level_grid(x, y)]
    body += [_band(one, x, y) for one in plot.bands]
    for rule in plot.rules:
        at = y.at(rule.at)
        body.append(
            f'<line class="rule" x1="{x.first}" x2="{x.last}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
    body += [_line(one, x, y) for one in plot.lines]
    for points in plot.points:
        body += _points(points, x, y)
    return body, height


def _rows(rows: Rows) -> tuple[list[str], int]:
    legend, depth = _legend(
        [
            ("block", ink, label)
            for ink, label in zip(("muted", "accent"), rows.key or (), strict=False)
        ]
        + [("rule", "muted", one.label) for one in rows.rules]
    )
    longest = max((len(one.name) for one in rows.rows), default=0)
    left = int(min(longest, _LONGEST) * _LETTER) + 20
    height = TOP + depth + _ROW * len(rows.rows) + BOTTOM
    x = Scale(axis=rows.x, first=left, last=WIDTH - RIGHT)
    y = Scale(axis=Axis(label="", low=0, high=1), first=height - BOTTOM, last=TOP + depth)
    body = [*legend, *_upright_grid(x, y)]
    for rule in rows.rules:
        at = x.at(rule.at)
        body.append(
            f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{y.last}" y2="{y.first}"/>'
        )
    for number, row in enumerate(rows.rows):
        middle = TOP + depth + _ROW * (number + 0.5)
        body.append(
            f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">'
            f"{_text(row.name if len(row.name) <= _LONGEST else row.name[: _LONGEST - 1] + '…')}"
            f"<title>{_text(row.name)}</title></text>"
        )
        body.append(_row(row, x, middle))
    return body, height


def _row(row: Row, x: Scale, middle: float) -> str:
    title = f"<title>{_text(row.title)}</title>"
    at = x.at(row.value)
    if row.ends is None:
        start = x.at(max(x.axis.low, 0.0))
        return "".join(
            f'<rect class="f-{ink}" x="{start:.1f}" y="{middle - 6:.1f}" '
            f'width="{max(x.at(value) - start, 0.5):.1f}" height="12">{title}</rect>'
            for ink, value in ((row.ink, row.value), ("accent", row.part))
            if value is not None
        )
    low, high = (x.at(end) for end in row.ends)
    return (
        f'<g>{title}<line class="whisker s-{row.ink}" x1="{low:.1f}" x2="{high:.1f}" '
        f'y1="{middle:.1f}" y2="{middle:.1f}"/>'
        f'<circle class="f-{row.ink}" cx="{at:.1f}" cy="{middle:.1f}" r="4"/></g>'
    )


def _upright_grid(x: Scale, y: Scale) -> Iterable[str]:
    """Ticks of x with their lines, and its label."""
    for value in ticks(x.axis):
        at = x.at(value)
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{y.last}" y2="{y.first}"/>'
        yield (
            f'<text x="{at:.1f}" y="{y.first + 16}" text-anchor="middle">'
            f"{tick_text(x.axis, value)}</text>"
        )
    yield f'<line class="axis" x1="{x.first}" x2="{x.last}" y1="{y.first}" y2="{y.first}"/>'
    yield (
        f'<text x="{(x.first + x.last) / 2:.1f}" y="{y.first + 36}" text-anchor="middle">'
        f"{_text(x.axis.label)}</text>"
    )


def _level_grid(x: Scale, y: Scale) -> Iterable[str]:
    """Ticks of y with their lines, and its label along the side."""
    for value in ticks(y.axis, most=5):
        at = y.at(value)
        yield f'<line class="grid" x1="{x.first}" x2="{x.last}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield (
            f'<text x="{x.first - 6}" y="{at + 4:.1f}" text-anchor="end">'
            f"{tick_text(y.axis, value)}</text>"
        )
    middle = (y.first + y.last) / 2
    yield (
        f'<text x="12" y="{middle:.1f}" text-anchor="middle" '
        f'transform="rotate(-90 12 {middle:.1f})">{_text(y.axis.label)}</text>'
    )


def _corners(xs: Sequence[float], ys: Sequence[float], *, steps: bool) -> list[tuple[float, float]]:
    """The corners of a line; a step holds each y up to the next x."""
    found: list[tuple[float, float]] = []
    for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if steps and number:
            found.append((x, found[-1][1]))
        found.append((x, y))
    return found


def _path(corners: Iterable[tuple[float, float]], x: Scale, y: Scale) -> str:
    return " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in corners)


def _line(line: Line, x: Scale, y: Scale) -> str:
    dashed = " dashed" if line.dashed else ""
    corners = _corners(line.x, line.y, steps=line.steps)
    return f'<polyline class="line s-{line.ink}{dashed}" points="{_path(corners, x, y)}"/>'


def _band(band: Band, x: Scale, y: Scale) -> str:
    over = _corners(band.x, band.high, steps=band.steps)
    under = _corners(band.x, band.low, steps=band.steps)
    return f'<polygon class="band" points="{_path([*over, *reversed(under)], x, y)}"/>'


def _points(points: Points, x: Scale, y: Scale) -> Iterable[str]:
    look = f"hollow s-{points.ink}" if points.hollow else f"f-{points.ink}"
    for number, (a, b, title) in enumerate(zip(points.x, points.y, points.titles, strict=True)):
        across, up = x.at(a), y.at(b)
        whisker = ""
        if points.ends is not None:
            low, high = (y.at(end) for end in points.ends[number])
            whisker = (
                f'<line class="whisker s-{points.ink}" x1="{across:.1f}" x2="{across:.1f}" '
                f'y1="{low:.1f}" y2="{high:.1f}"/>'
            )
        yield (
            f"<g><title>{_text(title)}</title>{whisker}"
            f'<circle class="{look}" cx="{across:.1f}" cy="{up:.1f}" r="3"/></g>'
        )


def _legend(entries: Sequence[tuple[str, str, str]]) -> tuple[list[str], int]:
    """Key of what is drawn, in lines above it, and the height that it takes."""
    body: list[str] = []
    across, line = float(LEFT), 0
    for look, ink, label in entries:
        if not label:
            continue
        width = 34 + len(label) * _LETTER
        if across > LEFT and across + width > WIDTH - RIGHT:
            across, line = float(LEFT), line + 1
        up = 10 + 18 * line
        body.append(_key(look, ink, across, up))
        body.append(f'<text x="{across + 24:.1f}" y="{up + 4}">{_text(label)}</text>')
        across += width + 8
    return body, (18 * (line + 1) if body else 0)


def _key(look: str, ink: str, x: float, y: float) -> str:
    if look == "block":
        return f'<rect class="f-{ink}" x="{x:.1f}" y="{y - 5}" width="18" height="10"/>'
    if look == "band":
        return f'<rect class="band" x="{x:.1f}" y="{y - 6}" width="18" height="12"/>'
    if look in ("dot", "hollow"):
        fill = f"hollow s-{ink}" if look == "hollow" else f"f-{ink}"
        return f'<circle class="{fill}" cx="{x + 9:.1f}" cy="{y}" r="3.5"/>'
    kind = "rule" if look == "rule" else f"line s-{ink}" + (" dashed" * (look == "dashed"))
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x + 18:.1f}" y1="{y}" y2="{y}"/>'


def _text(value: str) -> str:
    """Text for markup: nothing in it that could be markup, or turn the direction of writing."""
    return escape(visible(clean_text(value)))
