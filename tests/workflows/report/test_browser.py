"""The page in headless Chromium: it works, asks the network for nothing, and is accessible.

Chromium comes with `scripts/setup --dev`; without it these tests fail and say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import tailbound
from browsing import Opened, grave_findings, headless_chromium
from browsing import opened as open_address

SECONDS, REFERENCE = 2.0, 0.22
"""The bar, and the CPU time of `WORK` in seconds, measured at .18 to .31 on two cores."""
SEARCH = """async () => {
  const box = document.querySelector("#risks-table input[type=search]");
  box.value = "q9999";
  box.dispatchEvent(new Event("input"));
  while (document.querySelectorAll("#risks-table tbody tr").length !== 1)
    await new Promise(requestAnimationFrame);
  return performance.now() / 1000;
}"""
"""Search as soon as the page is ready; how long ago it began to load when the answer stands."""
WORK = """() => {
  const started = performance.now();
  const rows = Array.from({length: 60000}, (_, i) => ({key: Math.sin(i) * 1e6, text: "row " + i}));
  rows.sort((a, b) => a.key - b.key);
  const read = JSON.parse(JSON.stringify(rows));
  window.kept = read.map((one) => one.text.toLowerCase()).filter((one) => one.includes("9")).length;
  return (performance.now() - started) / 1000;
}"""
"""A fixed piece of work of the same kind: a busy or slow machine takes longer for both."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with headless_chromium() as browser:
        yield browser


def opened(browser: Browser, path: Path, **options: Any) -> Opened:
    return open_address(browser, path.resolve().as_uri(), **options)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, when: Path, how: Path, hostile: Path) -> Path:
    out = tmp_path_factory.mktemp("pages") / "report.html"
    tailbound.report(when, how, hostile, out=out, show_unsafe=True, progress=None)
    return out


def rows(page: Page, name: str) -> list[list[str]]:
    """The texts of a table's rows as they are shown."""
    found: list[list[str]] = page.eval_on_selector_all(
        f"#{name}-table tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))",
    )
    return found


def said(page: Page, name: str) -> str:
    return page.inner_text(f"#{name}-table .count")


def sort_by(page: Page, name: str, label: str) -> str | None:
    head = page.locator(f"#{name}-table th", has=page.get_by_role("button", name=label, exact=True))
    head.get_by_role("button").click()
    return head.get_attribute("aria-sort")


def test_the_page_says_no_error_and_asks_for_nothing_but_itself(
    chromium: Browser, report: Path
) -> None:
    found = opened(chromium, report)
    for summary in found.page.locator("details").all():
        summary.evaluate("one => { one.open = true }")
    found.page.mouse.wheel(0, 20_000)
    found.page.wait_for_timeout(300)
    assert found.said == []
    assert found.asked == [report.resolve().as_uri()]


def test_hostile_texts_stay_texts(chromium: Browser, report: Path) -> None:
    found = opened(chromium, report)
    page = found.page
    for box in page.locator("input[type=search]").all():
        box.fill("<script>")
        page.wait_for_timeout(200)
        box.fill("")
    for box in page.locator("details").all():
        box.evaluate("one => { one.open = true }")
    page.locator("td, pre, summary").first.hover()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, iframe, object, embed, form, main script:not([type])").count() == 0
    assert page.title() == "How rarely it misbehaves: known-risk, demo, import:table"
    page.fill("#risks-table input", "window.hacked=1")
    page.wait_for_timeout(300)
    assert "<script>window.hacked=1</script>" in rows(page, "risks")[0][0]
    assert found.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_is_drawn(chromium: Browser, report: Path, scheme: str) -> None:
    page = opened(chromium, report, color_scheme=scheme).page
    figures = page.locator("figure svg").all()
    assert len(figures) == 8
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for figure in figures:
        box = figure.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 80
        # marks lie within the picture, in a colour that is not the paper's
        marks = figure.evaluate(
            """svg => [...svg.querySelectorAll('circle, polyline, rect.f-muted, rect.f-accent')]
            .map(mark => { const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
              return [box.left, box.right, box.top, box.bottom, style.fill, style.stroke]; })"""
        )
        assert marks
        for left, right, top, bottom, fill, stroke in marks:
            assert box["x"] - 1 <= left <= right <= box["x"] + box["width"] + 1
            assert box["y"] - 1 <= top <= bottom <= box["y"] + box["height"] + 1
            assert {fill, stroke} - {"none", paper}


def test_tables_sort_by_number_and_by_text_with_unknown_values_last(
    chromium: Browser, report: Path
) -> None:
    page = opened(chromium, report).page
    assert sort_by(page, "bounds", "bound L") == "descending"
    longest = [int(row[2]) for row in rows(page, "bounds")]
    assert longest == sorted(longest, reverse=True)
    assert sort_by(page, "bounds", "bound L") == "ascending"
    shortest = [int(row[2]) for row in rows(page, "bounds")]
    assert shortest == sorted(shortest)
    assert longest != shortest
    for _ in range(2):
        sort_by(page, "risks", "risk")
        assert rows(page, "risks")[-1][0].endswith("no verdict")


def test_tables_search_filter_and_turn_pages(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    total = int(said(page, "bounds").split(" of ")[1].split()[0])
    assert said(page, "bounds") == f"1 to 25 of {total} prompts"
    pager = page.locator("#bounds-table .pager")
    assert pager.get_by_role("button", name="Previous").is_disabled()
    pager.get_by_role("button", name="Next").click()
    assert said(page, "bounds") == f"26 to {min(50, total)} of {total} prompts"
    page.locator("#bounds-table").get_by_label("outcome").select_option("missed")
    missed = rows(page, "bounds")
    assert missed
    assert {row[6] for row in missed} == {"missed"}
    assert said(page, "bounds").endswith(f" of {len(missed)} prompts")
    page.locator("#bounds-table").get_by_label("outcome").select_option("")
    page.get_by_label("Search prompts").first.fill("P7")
    page.wait_for_timeout(300)
    assert all("p7" in row[0] for row in rows(page, "bounds"))
    page.get_by_label("Search prompts").first.fill("nothing like this")
    page.wait_for_timeout(300)
    assert said(page, "bounds") == "No prompt matches."


def test_the_table_can_be_worked_by_keyboard_alone(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_label("Search prompts").first.focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "bound L":
            break
    page.keyboard.press("Enter")
    assert page.locator("#bounds-table th[aria-sort=descending]").inner_text().strip() == "bound L"


def test_unsafe_responses_stand_behind_a_click(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    example = page.locator("details.unsafe").first
    assert not example.locator("pre").first.is_visible()
    example.locator("summary").click()
    assert example.locator("pre").first.is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(
    chromium: Browser, report: Path, scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 850}
    page = opened(chromium, report, color_scheme=scheme, viewport=viewport).page
    assert grave_findings(page) == []


def test_a_phone_needs_no_scrolling_sideways(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report, viewport={"width": 360, "height": 740}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_prints_without_controls(chromium: Browser, report: Path) -> None:
    page = opened(chromium, report).page
    page.emulate_media(media="print")
    assert not page.locator("nav, .controls, .pager, details.unsafe").first.is_visible()
    assert page.locator("figure svg").first.is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_without_javascript_the_first_rows_stand_there(chromium: Browser, report: Path) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(report.resolve().as_uri())
    assert page.locator("#bounds-table tbody tr").count() == 25
    assert page.locator("figure svg").count() == 8
    assert not page.locator(".controls").first.is_visible()


def test_ten_thousand_prompts_are_interactive_within_two_seconds(
    chromium: Browser, many: Path, tmp_path: Path
) -> None:
    """By the time of the same machine for a fixed piece of work: the best of four loads counts."""
    path = tmp_path / "many.html"
    assert tailbound.report(many, out=path, progress=None).prompts == 10_000
    ratios = []
    for _ in range(4):
        page = opened(chromium, path).page
        taken = page.evaluate(SEARCH)
        ratios.append(taken / page.evaluate(WORK))
        page.context.close()
        if ratios[-1] <= SECONDS / REFERENCE:
            break
    assert min(ratios) <= SECONDS / REFERENCE, ratios
    assert said_all(chromium, path) == "1 to 25 of 10,000 prompts"


def said_all(chromium: Browser, path: Path) -> str:
    return said(opened(chromium, path).page, "risks")
