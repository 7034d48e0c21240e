"""The same page in Markdown, with its figures as SVG files beside it.

Texts from outside are escaped, for Markdown and for the HTML that it admits: they cannot make
links, images, headings or markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tailbound.core.outside import clean_text, visible
from tailbound.workflows.report.figures.svg import draw
from tailbound.workflows.report.html import GENERATOR, cell_text
from tailbound.workflows.report.page import (
    Block,
    Browser,
    Examples,
    Facts,
    Figure,
    Heading,
    Links,
    Page,
    Paragraph,
    Section,
    Table,
)
from tailbound.workflows.words import cut

ROWS = 100
"""Rows of a long table: a page of text is not searched or sorted."""
MARK = f"<!-- {GENERATOR} -->"
_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|(?<=www)\.|:(?=//)|^[#+=-]|^\d+(?=[.)]))")
_LONGEST = 160


def markdown(page: Page, *, figures: str) -> tuple[str, dict[str, str]]:
    """The text, and the figures by the names of their files in the folder `figures`."""
    drawn = {f"{one.name}.svg": draw(one.chart, name=one.name, alone=True) for one in page.figures}
    lines = [MARK, "", f"# {text(page.title)}", "", text(page.subtitle), ""]
    for section in (page.answers, *page.prompts):
        lines += _section(section, 2, figures)
    for run in page.runs:
        lines += [f"## Run {text(run.name)}", "", text(run.subtitle), ""]
        for section in run.sections:
            lines += _section(section, 3, figures)
    lines += _section(page.method, 2, figures)
    return "\n".join(lines).rstrip() + "\n", drawn


def text(value: str) -> str:
    r"""Text that Markdown shows as it is.

    >>> print(text("[x](http://a) <b> _y_"))
    \[x\](http\://a) &lt;b&gt; \_y\_
    """
    shown = visible(clean_text(value)).replace("&", "&amp;")
    shown = shown.replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda found: _escaped(found[0]), shown)


def _escaped(mark: str) -> str:
    """A mark that is none: a number that would begin a list has its digits as entities."""
    return f"\\{mark}" if not mark.isdigit() else "".join(f"&#{ord(one)};" for one in mark)


def _section(section: Section, level: int, figures: str) -> Iterator[str]:
    yield f"{'#' * level} {text(section.title)}"
    yield ""
    for block in section.blocks:
        yield from _block(block, figures)
        yield ""


def _block(block: Block, figures: str) -> Iterator[str]:
    if isinstance(block, Paragraph):
        words = text(f"{block.lead} {block.text}".strip())
        yield {"main": f"**{words}**", "warning": f"> {words}"}.get(block.weight, words)
    elif isinstance(block, Heading):
        yield f"### {text(block.text)}"
        yield ""
        yield text(block.note)
    elif isinstance(block, Links):
        yield from (f"- [{text(name)}](<{address}>)" for name, address in block.items)
    elif isinstance(block, Facts):
        yield from (f"- {text(name)}: {text(value)}" for name, value in block.rows)
    elif isinstance(block, Table):
        yield from _table(block)
    elif isinstance(block, Figure):
        yield f"![{text(block.chart.description)}](<{figures}/{block.name}.svg>)"
        yield ""
        yield f"{text(block.chart.title)}. {text(block.caption)}".rstrip()
        yield ""
        yield from _table(block.table)
    elif isinstance(block, Browser):
        yield from _table(_rows(block))
    elif isinstance(block, Examples):
        yield from _examples(block)


def _table(table: Table) -> Iterator[str]:
    yield f"{text(table.caption)}:"
    yield ""
    yield "| " + " | ".join(map(text, table.columns)) + " |"
    rules = ("--:" if place in table.numbers else "---" for place in range(len(table.columns)))
    yield "| " + " | ".join(rules) + " |"
    for row in table.rows:
        yield "| " + " | ".join(text(cut(cell, _LONGEST)) for cell in row) + " |"


def _rows(browser: Browser) -> Table:
    """The first rows, the prompt's text beside its id."""
    shown = browser.rows[:ROWS]
    left = browser.total - len(shown)
    rows = []
    for row, prompt in zip(shown, browser.prompts, strict=False):
        cells = [
            cell_text(column.kind, cell) for column, cell in zip(browser.columns, row, strict=True)
        ]
        if prompt is not None:
            cells[0] = f"{cut(prompt, _LONGEST // 2)} [{cut(cells[0], _LONGEST // 2 - 4)}]"
        rows.append(tuple(cells))
    numbers = tuple(
        place
        for place, column in enumerate(browser.columns)
        if column.kind in ("count", "probability")
    )
    return Table(
        caption=browser.caption + (f" ({left:,} more are not listed)" if left else ""),
        columns=tuple(column.label for column in browser.columns),
        rows=tuple(rows),
        numbers=numbers,
    )


def _examples(examples: Examples) -> Iterator[str]:
    for one in examples.items:
        yield f"<details><summary>{_html(one.title)}</summary>"
        yield f"<p>Prompt:</p><pre>{_html(one.prompt)}</pre>"
        yield f"<p>Response:</p><pre>{_html(one.response)}</pre></details>"
        yield ""


def _html(value: str) -> str:
    """Text in raw HTML: line breaks as entities, because an empty line would end the HTML."""
    from html import escape

    return escape(visible(clean_text(value), keep="\n")).replace("\n", "&#10;")
