"""What is left when a command is interrupted: told from what it was doing, never supposed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_folder: Path | None = None


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Finished draws or verdicts are kept in `folder` from here on, until the command is done."""
    global _folder
    _folder = folder
    yield
    # not where an exception came through: that is when somebody asks
    _folder = None


def begin() -> None:
    """A command begins: it keeps nothing yet."""
    global _folder
    _folder = None


def message() -> str:
    """What to say of an interrupted command."""
    if _folder is None:
        return "interrupted; nothing was kept"
    return f"interrupted; what is finished is kept in {_folder}: repeat the command to resume"
