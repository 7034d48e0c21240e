"""The served page in headless Chromium: it follows a run, and leaves the reader's choices alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from browsing import grave_findings, headless_chromium, opened
from processes import Launcher, Process

SLOW = Path(__file__).with_name("slow_run.py")
Serve = Callable[..., tuple[str, Process]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with headless_chromium() as browser:
        yield browser


def lines(page: Page) -> list[str]:
    return page.locator("#live li").all_inner_texts()


def wait_for(page: Page, condition: str, seconds: float = 40) -> None:
    page.wait_for_function(f"() => {condition}", timeout=1000 * seconds)


def place(page: Page, selector: str) -> float:
    found = page.eval_on_selector(selector, "one => one.getBoundingClientRect().top")
    return float(found)


def test_a_page_follows_a_run_and_keeps_what_the_reader_chose(
    chromium: Browser, launcher: Launcher, serve: Serve, when: Path, tmp_path: Path
) -> None:
    going = tmp_path / "going"
    run = launcher.start(going, 400, 700, script=SLOW)
    while not list((going / "draws").glob("*.parquet")):
        assert run.running, run.finish()
    url, server = serve(when, going)
    found = opened(chromium, url)
    page = found.page
    page.evaluate("window.marker = 1")
    assert "going: running; " in lines(page)[1]
    assert "No result yet" in page.inner_text("#answers")
    assert "this page follows it" in page.inner_text("#progress")
    assert grave_findings(page) == []
    for box in page.locator("details").all():
        box.evaluate("one => { one.open = false }")

    # the reader works with the table of the other run, and reads on below
    table = page.locator("#bounds-table")
    table.get_by_role("button", name="bound L", exact=True).click()
    table.get_by_label("outcome").select_option("held")
    table.get_by_label("Search prompts").fill("asks")
    page.wait_for_timeout(1300)
    table.get_by_role("button", name="Next").click()
    chosen = table.inner_text()
    assert table.locator(".count").inner_text().startswith("26 to ")
    opened_one = page.locator("#run-1 details").first
    opened_one.locator("summary").click()
    table.get_by_label("Search prompts").focus()
    page.evaluate("document.querySelector('#run-1-survival').scrollIntoView()")
    page.evaluate("scrollBy(0, 60)")
    at = place(page, "#run-1-survival-heading")

    # paused: the numbers go on, the page stays
    page.get_by_role("button", name="Pause updates").evaluate("one => one.click()")
    before = page.inner_text("main")
    first = lines(page)[1]
    Path(f"{going}.400").touch()
    page.wait_for_function(
        "first => document.querySelectorAll('#live li')[1].textContent !== first", arg=first
    )
    page.wait_for_timeout(2500)
    assert page.inner_text("main") == before
    page.get_by_role("button", name="Resume updates").evaluate("one => one.click()")
    page.wait_for_function("was => document.querySelector('main').innerText !== was", arg=before)

    def unchanged() -> None:
        assert table.inner_text() == chosen
        assert table.get_by_label("Search prompts").input_value() == "asks"
        assert table.get_by_label("outcome").input_value() == "held"
        assert table.locator("th[aria-sort=descending]").inner_text().strip() == "bound L"
        assert page.locator("#run-1 details[open]").count() == 1
        assert page.evaluate("document.activeElement.type") == "search"
        assert abs(place(page, "#run-1-survival-heading") - at) < 3

    unchanged()
    # a text that is being selected is not taken away
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#run-1-survival p'))")
    held = page.inner_text("main")
    Path(f"{going}.700").touch()
    assert run.finish(timeout=120).returncode == 0
    page.wait_for_timeout(4500)
    assert page.inner_text("main") == held
    page.evaluate("getSelection().removeAllRanges()")
    wait_for(page, "document.querySelector('#live [role=status]').textContent.startsWith('Fin')")
    assert [line.split("; ")[0] for line in lines(page)] == ["when: finished", "going: finished"]
    assert page.locator("#progress").count() == 0
    assert "No result yet" not in page.inner_text("#answers")
    assert page.locator("#run-2 figure svg").count() > 1
    assert page.evaluate("window.marker") == 1
    assert not page.get_by_role("button", name="Pause updates").is_visible()
    assert page.locator("#run-1 details[open]").count() == 1
    assert "<i>p" in page.inner_text("#bounds-table") or "<b>p" in page.inner_text("#bounds-table")

    # nothing was asked of anybody else, nothing is asked any more, and nothing was complained of
    asked = len(found.asked)
    assert set(found.asked) == {url, f"{url}status"}
    page.wait_for_timeout(3000)
    assert len(found.asked) == asked
    assert found.said == []
    assert page.evaluate("window.hacked") is None
    assert grave_findings(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert Path(server.files + ".err").read_text() == ""


def test_a_page_whose_server_has_ended_stays_and_says_so(
    chromium: Browser, launcher: Launcher, serve: Serve, tmp_path: Path
) -> None:
    going = tmp_path / "going"
    run = launcher.start(going, 400, script=SLOW)
    while not list((going / "draws").glob("*.parquet")):
        assert run.running, run.finish()
    url, server = serve(going)
    page = opened(chromium, url, color_scheme="dark").page
    assert grave_findings(page) == []
    server.kill()
    run.kill()
    wait_for(page, "document.querySelector('#live [role=status]').textContent.startsWith('No a')")
    assert "No result yet" in page.inner_text("main")


def test_without_javascript_the_page_stands_and_says_how_to_go_on(
    chromium: Browser, serve: Serve, when: Path
) -> None:
    url, _ = serve(when)
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(url)
    assert page.locator("#bounds-table tbody tr").count() == 25
    assert "load it again" in page.inner_text("#live")
