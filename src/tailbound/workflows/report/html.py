"""The page as one HTML file that asks the network for nothing.

Every text is escaped by the template engine; long tables stand as JSON in which no `<` occurs. The
Content-Security-Policy admits the page's own style and script, by their hashes, and nothing else.
Only a `Live` page, which a server gave, may ask that server how its runs stand.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

from tailbound.core.outside import clean_text, visible
from tailbound.workflows.report.figures.svg import STYLE, draw
from tailbound.workflows.report.page import Browser, Cell, Figure, Page
from tailbound.workflows.words import count, cut, probability

GENERATOR = "tailbound report"
MARK = f'<meta name="generator" content="{GENERATOR}">'
"""By which an earlier report is known."""
FIRST_ROWS = 25
"""Rows that stand in the page itself: what is seen without JavaScript."""
LONGEST = 240
"""Letters of a prompt, and of any other text, in a table."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """What a page that follows its runs shows of them: a line for each, as of `version`."""

    version: str
    lines: tuple[str, ...]


def html(page: Page, *, live: Live | None = None) -> str:
    """The file, or with `live` the page for a server; nothing in either is trusted."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    follows = live is not None
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=_shown
    )
    template = environment.from_string(_asset("page.html"))
    return template.render(
        page=page,
        live=live,
        style=Markup(_style()),
        script=Markup(_script(live=follows)),
        policy=Markup(policy(live=follows)),
        generator=GENERATOR,
        kind_of=lambda block: type(block).__name__,
        first_rows=_first_rows,
        kept=lambda text: Markup.escape(visible(clean_text(text), keep="\n\t")),
        drawn=lambda block: Markup(_drawn(block)),
        data=lambda block: Markup(_data(block)),
    )


def policy(*, live: bool = False) -> str:
    """The Content-Security-Policy of a page."""
    parts = (
        "default-src 'none'",
        f"style-src 'sha256-{_hash(_style())}'",
        f"script-src 'sha256-{_hash(_script(live=live))}'",
        *(["connect-src 'self'"] if live else []),
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join(parts)


@cache
def _style() -> str:
    return _asset("page.css") + _own_colours(STYLE)


@cache
def _script(*, live: bool) -> str:
    return _asset("page.js") + (_asset("live.js") if live else "")


def _asset(name: str) -> str:
    return (files("tailbound.workflows.report") / "assets" / name).read_text(encoding="utf-8")


def _own_colours(style: str) -> str:
    """The style of figures without its colours: the page has its own, by its scheme."""
    return "\n".join(line for line in style.splitlines() if not line.startswith(".chart{"))


def _hash(text: str) -> str:
    """What the Content-Security-Policy knows an inline style or script by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: Any) -> Any:
    """Text on one line without characters that act or hide; markup of our own as it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(clean_text(value))
    return value


def _drawn(figure: Figure) -> str:
    return draw(figure.chart, name=figure.name)


def _first_rows(browser: Browser) -> list[list[str]]:
    """What the page shows before its script, and without it."""
    found = []
    for row, prompt in zip(browser.rows[:FIRST_ROWS], browser.prompts, strict=False):
        cells = [
            cell_text(column.kind, cell) for column, cell in zip(browser.columns, row, strict=True)
        ]
        if prompt is not None:
            cells[0] = cut(prompt, LONGEST)
        found.append(cells)
    return found


def cell_text(kind: str, cell: Cell) -> str:
    """A cell as text."""
    if cell is None:
        return "–"
    if kind == "probability" and isinstance(cell, (int, float)):
        return probability(float(cell))
    if kind == "count" and isinstance(cell, (int, float)):
        return count(float(cell))
    return cut(str(cell), LONGEST)


def _data(browser: Browser) -> str:
    """Everything that the script needs, as JSON that no parser of HTML sees an end in."""
    plain = partial(_plain, longest=LONGEST)
    document = {
        "columns": [
            {"key": one.key, "label": one.label, "kind": one.kind, "help": one.help}
            for one in browser.columns
        ],
        "rows": [[plain(cell) for cell in row] for row in browser.rows],
        "prompts": [plain(text) for text in browser.prompts],
        "scale": None if browser.scale is None else vars(browser.scale),
        "filters": list(browser.filters),
        "first": browser.columns[0].key,
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _plain(value: Any, *, longest: int) -> Any:
    if isinstance(value, str):
        return visible(clean_text(cut(value, longest)))
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value
