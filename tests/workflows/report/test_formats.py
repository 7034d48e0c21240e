"""Both formats: nothing from outside is markup, and all that a page says is there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import markdown as renderer
import pytest

import tailbound
from tailbound.workflows.report.html import html
from tailbound.workflows.report.markdown import markdown, text
from tailbound.workflows.report.page import Browser, Page
from tailbound.workflows.report.reading import reported
from tailbound.workflows.report.sections import page_of

ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body", "header", "nav", "main", "section"),
    *("h1", "h2", "h3", "h4", "p", "a", "ul", "li", "dl", "dt", "dd", "div", "strong", "small"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details"),
    *("summary", "pre", "script", "noscript"),
    *("svg", "desc", "g", "line", "polyline", "polygon", "circle", "rect", "text"),
}
DANGEROUS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u202a-\u202e\u2066-\u2069\ufeff]")


class Reader(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._within = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within = tag
            (self.scripts if tag == "script" else self.styles).append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within == "style":
            self.styles[-1] += data


def page(*folders: Path, show_unsafe: bool = True) -> Page:
    return page_of(reported(folders), show_unsafe=show_unsafe, made="Now.")


def read(source: str) -> Reader:
    found = Reader()
    found.feed(source)
    return found


@pytest.fixture(scope="module")
def hostile_page(hostile: Path, when: Path, how: Path) -> Page:
    return page(hostile, when, how)


def test_html_holds_only_our_own_elements_and_no_handlers(hostile_page: Page) -> None:
    found = read(html(hostile_page))
    assert {tag for tag, _ in found.elements} <= ELEMENTS
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src"):
            address = attributes.get(name)
            assert address is None or address.startswith(
                ("#", "data:,", "https://arxiv.org/", "https://doi.org/")
            )
    browsers = sum(isinstance(b, Browser) for s in hostile_page.sections for b in s.blocks)
    kinds = [attributes.get("type") for tag, attributes in found.elements if tag == "script"]
    assert kinds == ["application/json"] * browsers + [None]


def test_the_policy_admits_exactly_the_style_and_the_script_of_the_page(hostile_page: Page) -> None:
    found = read(html(hostile_page))
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in found.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for name, content in (("style", found.styles[0]), ("script", found.scripts[-1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert len(found.styles) == 1


def test_tables_are_sound_json_of_the_same_rows(hostile_page: Page) -> None:
    found = read(html(hostile_page))
    browsers = [b for s in hostile_page.sections for b in s.blocks if isinstance(b, Browser)]
    for browser, script in zip(browsers, found.scripts, strict=False):
        assert not set(script) & set("<>&")
        held = json.loads(script)
        assert len(held["rows"]) == len(held["prompts"]) == len(browser.rows)
        assert all(len(str(cell)) <= 1_500 for row in held["rows"] for cell in row)


def test_what_hides_or_turns_text_is_written_out(hostile_page: Page) -> None:
    source = html(hostile_page)
    assert not DANGEROUS.search(source)
    assert "\\x1b[31mred" in source
    assert "\\u202egnp.exe" in source
    written, drawn = markdown(hostile_page, figures="f")
    assert not DANGEROUS.search(written)
    assert not any(DANGEROUS.search(one) for one in drawn.values())


def test_a_million_letters_stay_short(hostile_page: Page) -> None:
    assert len(html(hostile_page)) < 600_000
    assert len(markdown(hostile_page, figures="f")[0]) < 200_000


def test_markdown_makes_no_markup_from_outside(hostile_page: Page) -> None:
    written, _ = markdown(hostile_page, figures="f")
    found = read(renderer.markdown(written, extensions=["tables", "md_in_html"]))
    own = {"h1", "h2", "h3", "p", "strong", "blockquote", "ul", "ol", "li", "a", "img", "table"}
    own |= {"thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "em", "code"}
    assert {tag for tag, _ in found.elements} <= own
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("href") or attributes.get("src")
        assert address is None or address.startswith(
            ("https://arxiv.org/", "https://doi.org/", "f/")
        )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("# no heading", "# no heading"),
        ("- no item", "- no item"),
        ("12. no list", "12. no list"),
        ("<b>x</b> & y", "<b>x</b> & y"),
        ("`code` *em* _em_ [l](u) \\", "`code` *em* _em_ [l](u) \\"),
        ("p_hat 3e-05 .. 2e-04", "p_hat 3e-05 .. 2e-04"),
    ],
)
def test_markdown_shows_texts_as_they_are(given: str, shown: str) -> None:
    rendered = renderer.markdown(text(given))
    inner = re.fullmatch(r"<p>(.*)</p>", rendered, re.DOTALL)
    assert inner is not None, rendered
    words: list[str] = []
    plain = HTMLParser(convert_charrefs=True)
    plain.handle_data = words.append  # type: ignore[method-assign]
    plain.feed(inner[1])
    plain.close()
    assert "".join(words) == shown
    assert "<" not in inner[1]


def test_responses_are_left_out_unless_asked_for(hostile: Path, how: Path) -> None:
    response = str(tailbound.load_run(how).review[0]["response"])
    for show in (False, True):
        found = page(hostile, how, show_unsafe=show)
        for source in (html(found), markdown(found, figures="f")[0]):
            assert (response in source) is show
            assert ("Unsafe responses" in source) is show
    closed = [a for tag, a in read(html(page(how))).elements if tag == "details"]
    assert closed
    assert not any("open" in attributes for attributes in closed)


def test_every_figure_has_a_name_a_description_and_its_numbers(hostile_page: Page) -> None:
    found = read(html(hostile_page))
    figures = hostile_page.figures
    assert sum(tag == "svg" for tag, _ in found.elements) == len(figures)
    assert len({one.name for one in figures}) == len(figures)
    ids = [attributes["id"] for _, attributes in found.elements if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for one in figures:
        assert one.chart.title
        assert one.chart.description
        assert one.table.rows
    for tag, attributes in found.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert set(str(attributes["aria-labelledby"]).split()) <= set(map(str, ids))


def test_figures_beside_markdown_stand_alone(hostile_page: Page) -> None:
    written, drawn = markdown(hostile_page, figures="f")
    assert len(drawn) == len(hostile_page.figures)
    for name, drawing in drawn.items():
        assert f"(<f/{name}>)" in written
        root = ET.fromstring(drawing)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [
            one for one in root.iter() if one.tag.endswith(("script", "image", "foreignObject"))
        ]
