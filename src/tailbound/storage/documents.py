"""Reading the JSON and YAML files of a run folder: the one place that says "damaged"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailbound.errors import LedgerError
from tailbound.storage.seal import is_sealed

RESTORE = "restore it"
_OTHERS = (RecursionError, OverflowError)
"""What documents nested too deeply and numbers that are too large raise."""


def read_json(path: Path, *, cure: str = RESTORE) -> dict[str, Any]:
    """The object that `tailbound.storage.files.write_json` wrote, without its checksum.

    Raises `FileNotFoundError` where there is no file, and `LedgerError` where it is not what was
    written. `cure` says what a user can do about that.
    """
    text = read_sealed(path, cure=cure)
    with understood(path, cure=cure):
        document: dict[str, Any] = json.loads(text)
        del document["checksum"]
    return document


def read_sealed(path: Path, *, cure: str = RESTORE) -> str:
    """The text of a sealed file; raises as `read_json` does."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(str(path)) from None
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror or error}): {cure}") from error
    if not is_sealed(data):
        raise LedgerError(
            f"{path} is damaged, or was not written by this tailbound (its checksum does not "
            f"match): {cure}"
        )
    with understood(path, cure=cure):
        return data.decode()


@contextmanager
def understood(path: Path, *, cure: str = RESTORE) -> Iterator[None]:
    """Report as a `LedgerError` that a document which was read has not the expected content."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, *_OTHERS) as error:
        if isinstance(error, LedgerError):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise LedgerError(f"{path} is damaged ({reason}): {cure}") from error
