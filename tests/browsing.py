"""Pages in headless Chromium, which comes with `scripts/setup --dev`; without it, tests say so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "these tests need Chromium: run scripts/setup --dev, or apt-get install chromium"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and everything that it said or asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def opened(browser: Browser, address: str, **options: Any) -> Opened:
    options = {"viewport": {"width": 1100, "height": 900}, **options}
    found = Opened(browser.new_context(**options).new_page())
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("request", lambda request: found.asked.append(request.url))
    found.page.on("dialog", lambda dialog: found.said.append(dialog.message))
    found.page.goto(address)
    found.page.wait_for_selector("html[data-ready]", state="attached")
    return found


def grave_findings(page: Page) -> list[tuple[str, str]]:
    """What axe-core calls serious or critical, everything opened: (rule, where)."""
    for box in page.locator("details").all():
        box.evaluate("one => { one.open = true }")
    return [
        (one["id"], one["nodes"][0]["html"][:200])
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
