"""What the pages say about the code is so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from docs.pages import DOCUMENTED, PAGES, ROOT, name

SOURCE = ROOT / "src" / "tailbound"

#: What a native editor would not have left standing.
ODD = re.compile(
    r"\bbeforehand\b|\bgo(es)? on (from|where|there)\b|\bmend (it|them)\b|\b(is|are) told\b|"
    r"\bgarbled\b|\bin the house\b",
    re.IGNORECASE,
)


def _rows(page: str, header: str) -> list[list[str]]:
    """The rows of the first table on `page` whose header begins with `header`."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {header}"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _resolve(path: str) -> Any:
    """The object at a dotted path below `tailbound`."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["tailbound", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no tailbound.{path}")


FORMULAS = _rows("formulas.md", "formula")


def test_there_are_formulas() -> None:
    assert len(FORMULAS) >= 25


@pytest.mark.parametrize("row", FORMULAS, ids=lambda row: row[0])
def test_formulas_have_their_function_and_their_test(row: list[str]) -> None:
    _, functions, tests = row
    for function in _code(functions):
        assert callable(_resolve(function))
    file, test = _code(tests)
    assert f"def {test}(" in (ROOT / "tests" / file).read_text()


QUESTIONS = _rows("architecture.md", "question")


def test_there_are_eight_questions() -> None:
    assert len(QUESTIONS) == 8


@pytest.mark.parametrize("row", QUESTIONS, ids=lambda row: row[0])
def test_answers_are_where_the_table_says_and_a_search_finds_them(row: list[str]) -> None:
    _, where, word = row
    (searched,) = _code(word)
    files = [SOURCE / code for code in _code(where) if code.endswith(".py")]
    names = [code for code in _code(where) if not code.endswith(".py")]
    texts = [file.read_text() for file in files]
    assert files
    # one answer, and the word is found in every file that is named
    for text, file in zip(texts, files, strict=True):
        flat = " ".join(text.lower().split())
        assert searched.lower() in flat, f"{file.name} does not speak of {searched!r}"
    for one in names:
        last = one.rsplit(".", 1)[-1]
        assert any(re.search(rf"(def|class) {last}\b", text) or last == "record" for text in texts)


def test_every_layer_is_there() -> None:
    layers = {code for row in _rows("architecture.md", "layer") for code in _code(row[0])}
    folders = {
        path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    assert folders - layers == set(), "packages without a row in docs/architecture.md"


@pytest.mark.parametrize("package", DOCUMENTED)
def test_packages_have_a_reference_page(package: str) -> None:
    module = "tailbound" if package == "tailbound" else f"tailbound.{package}"
    page = (ROOT / "docs" / "reference" / f"{package}.md").read_text()
    assert re.search(rf"^::: {module}$", page, re.MULTILINE)
    assert f"reference/{package}.md" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_are_in_plain_english(page: Path) -> None:
    assert ODD.findall(page.read_text()) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
