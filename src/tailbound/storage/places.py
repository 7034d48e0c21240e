"""Whether a folder can be made or written to, found out before anything is spent."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL, ELOOP, ENAMETOOLONG
from pathlib import Path

from tailbound.core.outside import one_line
from tailbound.errors import LedgerError, UsageError

LONGEST = "draws/.part-000001.parquet-00000000-00000000.tmp"
"""The longest name that is written to a run folder: a path may be too long with it alone."""


def check_name(path: Path) -> None:
    """Raise `UsageError` for a name that no file or folder of this system can have."""
    try:
        path.lstat()
    except OSError as error:
        if error.errno in (ENAMETOOLONG, ELOOP, EINVAL):
            raise UsageError(
                f"{one_line(str(path), 100)} is not a name that can be used ({error.strerror})"
            ) from error
    except ValueError as error:  # a character that no name may have
        raise UsageError(
            f"{one_line(str(path), 100)} is not a name that can be used ({error})"
        ) from error


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
