"""Whether a folder can be made or written to, found out before anything is spent."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tailbound.errors import LedgerError, UsageError

LONGEST = "draws/.part-000001.parquet-00000000-00000000.tmp"
"""The longest name that is written to a run folder: a path may be too long with it alone."""


def check_place(folder: Path, *, option: str = "--out") -> None:
    """Find out whether `folder` is or can be a folder that this process may write to.

    Raises `UsageError` where a file is in the way, and `LedgerError` where the system refuses: a
    name that is too long, a place that is read-only. Nothing is written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: give the name of a folder as {option}")
        with suppress(FileNotFoundError, NotADirectoryError):
            (folder / LONGEST).lstat()
        parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:  # a name that is too long, a parent that may not be read
        reason = error.strerror or error
        raise LedgerError(f"{option} {folder} cannot be used: {reason}") from error
    if not parent.is_dir():
        raise UsageError(f"{option} {folder} cannot be made: {parent} is a file")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise LedgerError(f"{option} {folder} cannot be written to: {parent} is read-only for you")
