"""Files that are either there in full or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tailbound.errors import LedgerError

if TYPE_CHECKING:
    import polars as pl

#: Names of unfinished files begin and end so; whatever reads a folder passes over them.
TEMPORARY_PREFIX = "."
TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that, whenever the power goes, it holds the old content or the new.

    Text is written as UTF-8. The content goes to a temporary file in the same folder, which is
    flushed to the disk and renamed; then the folder is flushed.
    """
    data = content.encode() if isinstance(content, str) else content
    write_durably(Path(path), lambda temporary: temporary.write_bytes(data))


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Write a JSON document atomically: indented, keys in the given order, no NaN."""
    write_atomically(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and put it in place atomically and durably."""
    temporary = path.parent / (f"{TEMPORARY_PREFIX}{path.name}-{uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    try:
        write(temporary)
        _flush_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_to_disk(path.parent)


def write_shard(path: Path, frame: pl.DataFrame) -> None:
    """Put `frame` in place as Parquet, durably; raises `LedgerError` where the disk refuses."""
    try:
        write_durably(path, lambda temporary: frame.write_parquet(temporary, compression="zstd"))
    except OSError as error:
        raise LedgerError(
            f"{path.parent} cannot be written ({error.strerror or error}): make room, then run "
            "the same command again"
        ) from error


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
