"""Files that are either there in full or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tailbound.errors import LedgerError, UsageError
from tailbound.storage.seal import BLANK, seal

#: Names of unfinished files begin and end so; whatever reads a folder passes over them.
TEMPORARY_PREFIX = "."
TEMPORARY_SUFFIX = ".tmp"

_process = uuid4().hex[:8]
"""In the names of this process's unfinished files, which are not left-overs."""
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{8}(?:-[0-9a-f]{8})?\.tmp")

_BEGINNING = 600
"""Letters of a file in which it says what it is."""

_CURES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EACCES: "make its folder writable, or use another one",
    errno.EPERM: "make its folder writable, or use another one",
    errno.EROFS: "use a folder on a disk that is not read-only",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOTDIR: "a part of the path is a file, so use another one",
}


def _name_anew() -> None:
    """A process that is forked is another one: what its sibling left behind is a left-over."""
    global _process
    _process = uuid4().hex[:8]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_name_anew)


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file so that, whenever the power goes, it holds the old content or the new.

    Text is written as UTF-8. The content goes to a temporary file in the same folder, which is
    flushed to the disk and renamed; then the folder is flushed. Raises `LedgerError` where the
    system refuses.
    """
    data = content.encode() if isinstance(content, str) else content
    write_durably(Path(path), lambda temporary: temporary.write_bytes(data))


def write_json(
    path: str | os.PathLike[str], document: Mapping[str, Any], *, indent: int | None = 2
) -> None:
    """Write a JSON object atomically and sealed: indented, keys in the given order, no NaN.

    The last key is the checksum (`tailbound.storage.seal`), and `read_json` in
    `tailbound.storage.documents` reads it back.
    """
    text = json.dumps({**document, "checksum": BLANK}, indent=indent, allow_nan=False) + "\n"
    write_atomically(path, seal(text.encode()))


def write_durably(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file and put it in place atomically and durably.

    Raises `LedgerError` where the system refuses: the disk is full, the folder read-only, ...
    """
    temporary = path.parent / (
        f"{TEMPORARY_PREFIX}{path.name}-{_process}-{uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
    )
    with refusals(path):
        try:
            write(temporary)
            _flush_to_disk(temporary)
            os.replace(temporary, path)
        except BaseException:
            _remove(temporary)
            raise
        _flush_to_disk(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; raises `LedgerError` where the system refuses."""
    with refusals(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Report as a `LedgerError` of one line that the system refuses to write to `path`."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "see to the disk, or use another folder")
        # the name itself may be what is too long
        shown = str(path) if len(str(path)) <= 300 else f"{str(path)[:300]}..."
        raise LedgerError(
            f"{shown} cannot be written ({error.strerror or error}): {cure}, then run the same "
            "command again"
        ) from error


def check_replaceable(path: Path, mark: str, *, what: str) -> None:
    """Raise `UsageError` where `path` is something else than an earlier file of ours.

    `mark` stands in the first letters of each of ours; `what` says what they are.
    """
    if not path.exists():
        return
    beginning = mark
    if path.is_file():
        try:
            with path.open(encoding="utf-8", errors="replace") as held:
                beginning = held.read(_BEGINNING)
        except OSError as error:
            raise UsageError(
                f"{path} exists and cannot be read ({error.strerror}): name another file"
            ) from error
    if not path.is_file() or (beginning and mark not in beginning):
        raise UsageError(f"{path} exists and is not {what}: name another file")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished in `folder`, which only we write to now."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
        if _UNFINISHED.fullmatch(path.name) and f"-{_process}-" not in path.name:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a file; one that cannot be removed harms nobody, for it is passed over."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _flush_to_disk(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows flushes no folders
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems flush files but no folders
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
