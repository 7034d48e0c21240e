"""The pages of the documentation, and the snippets on them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: README, and every page of the site.
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

#: Packages whose public names have a page in docs/reference.
DOCUMENTED = (
    "tailbound",
    "survival",
    "importance_sampling",
    "intervals",
    "summaries",
    "monitoring",
    "deployment",
    "studies",
    "prompts",
    "targets",
    "judges",
    "predictors",
    "steering",
    "runs",
    "errors",
)

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = ("tailbound", ".venv/bin/tailbound")


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, its text, and the line where it begins."""

    page: Path
    language: str
    text: str
    line: int

    def commands(self) -> list[list[str]]:
        """The arguments of every `tailbound` command in a block for a shell."""
        if self.language not in ("sh", "console", "text", ""):
            return []
        lines = self.text.replace("\\\n", " ").split("\n")
        parts = [part for line in lines for part in line.removeprefix("$ ").split("&&")]
        return [
            shlex.split(part, comments=True)[1:]
            for part in parts
            if part.strip().startswith(_PROGRAMS)
        ]


def snippets(page: Path) -> list[Snippet]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Snippet(page, match[1], match[2], text.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(text)
    ]


def inline_code(page: Path) -> list[str]:
    """Text between single backticks, outside fences."""
    return re.findall(r"`([^`\n]+)`", _FENCE.sub("", page.read_text()))


def name(page: Path) -> str:
    """The page as a person would call it."""
    return str(page.relative_to(ROOT))
