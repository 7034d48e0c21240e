"""The site builds without a warning, is complete, and fetches nothing."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import DOCUMENTED, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: any warning is a failure."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs").with_suffix(".html")).is_file()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//[^"]*"', text)
        fetched += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(?:https?:)?//[^"]*"', text)
        assert fetched == []


def test_the_reference_has_signatures_and_examples(site: Path) -> None:
    page = (site / "reference" / "survival.html").read_text()
    for name in ("calibrate", "evaluate", "forecast", "LowerPredictiveBound", "required"):
        assert re.search(rf'id="tailbound\.survival\.{name}"', page)
    assert "&gt;&gt;&gt;" in page  # an example, shown as code
    assert "<blockquote>" not in page  # and never as a quotation


@pytest.mark.parametrize("package", DOCUMENTED)
def test_every_public_function_and_class_is_on_its_page(site: Path, package: str) -> None:
    path = "tailbound" if package == "tailbound" else f"tailbound.{package}"
    module = importlib.import_module(path)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == path
    ]
    public = [name for name in names if callable(getattr(module, name))]
    page = (site / "reference" / f"{package}.html").read_text()
    assert public
    assert [name for name in public if f'id="{path}.{name}"' not in page] == []
