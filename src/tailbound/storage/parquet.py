"""Parquet files: sealed ones of ours, and the one place that reads any.

A sealed file carries two entries in its metadata: `tailbound.checksum` (see
`tailbound.storage.seal`), and `tailbound.of`, what it belongs to. One that holds the rows of others
has their names and checksums as well, in `tailbound.replaces`. Polars, pandas and DuckDB read it
like any other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import LedgerError
from tailbound.storage.files import write_atomically
from tailbound.storage.seal import BLANK, is_sealed, seal

if TYPE_CHECKING:
    import polars as pl

_OF, _CHECKSUM, _REPLACES = "tailbound.of", "tailbound.checksum", "tailbound.replaces"
_STDERR = threading.Lock()


DEEPEST = 100
"""Levels of lists and structures in a column: time grows with the square of them."""
_TOO_DEEP = 3
_TRIAL = f"""
import io, sys
import polars
try:
    data = sys.stdin.buffer.read()
    for kind in polars.read_parquet_schema(io.BytesIO(data)).values():
        level = [kind]
        for _ in range({DEEPEST}):
            level = [
                part
                for one in level
                for part in (
                    [field.dtype for field in one.fields] if isinstance(one, polars.Struct)
                    else [one.inner] if isinstance(one, polars.List | polars.Array)
                    else []
                )
            ]
        if level:
            sys.exit({_TOO_DEEP})
    polars.read_parquet(io.BytesIO(data))
except BaseException as error:
    sys.exit(error.code if isinstance(error, SystemExit) else 1)
"""


class DamagedParquetError(LedgerError):
    """A file that is not sound Parquet; the message is the reason, one line without the file."""


def write_sealed(
    path: Path, frame: pl.DataFrame, *, of: str = "", replaces: Sequence[tuple[str, str]] = ()
) -> None:
    """Put `frame` in place durably, sealed as belonging to `of`; `LedgerError` where it fails.

    `replaces` are names and checksums of the files whose rows it holds (`recorded_seals`).
    """
    buffer = BytesIO()
    notes = {_OF: of}
    if replaces:
        notes[_REPLACES] = "".join(f"{name} {checksum}\n" for name, checksum in replaces)
    frame.write_parquet(buffer, compression="zstd", metadata={**notes, _CHECKSUM: BLANK})
    write_atomically(path, seal(buffer.getvalue()))


def check_sealed(path: Path, *, of: str = "", cure: str) -> bytes:
    """The bytes of a file, after it was found to be what `write_sealed` wrote for `of`.

    Raises `LedgerError` where it is damaged or belongs to something else; `cure` says what to do
    about damage.
    """

    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"{path} cannot be read ({error.strerror or error}): {cure}") from error
    if not is_sealed(data):
        raise LedgerError(
            f"{path} is damaged, or was not written by this tailbound (its checksum does not "
            f"match): {cure}"
        )
    if _metadata(path, data, cure).get(_OF) != of:
        raise LedgerError(
            f"{path} belongs to another run, contract, judge or seed: move it out of {path.parent}"
        )
    return data


def read_sealed(path: Path, *, of: str = "", cure: str) -> pl.DataFrame:
    """The frame that `write_sealed` wrote; raises as `check_sealed` does."""
    data = check_sealed(path, of=of, cure=cure)
    try:
        return _parse(data)
    except DamagedParquetError as error:
        raise LedgerError(f"{path} cannot be read ({error}): {cure}") from error


def recorded_seals(path: Path, *, cure: str) -> list[tuple[str, str]]:
    """Name and checksum of a sealed file, from its footer alone; raises `LedgerError`.

    Of a file that replaces others, theirs in their order. The content is not read, so nothing is
    said of whether it bears the checksum.
    """
    import polars as pl

    with readable(path, cure=cure):
        notes = pl.read_parquet_metadata(path)
    if _CHECKSUM not in notes:
        raise LedgerError(f"{path} bears no checksum: {cure}")
    if _REPLACES not in notes:
        return [(path.name, notes[_CHECKSUM])]
    lines = [line.split(" ") for line in notes[_REPLACES].splitlines()]
    if not all(len(line) == 2 for line in lines):
        raise LedgerError(f"{path} does not say which files it replaces: {cure}")
    return [(name, checksum) for name, checksum in lines]


def _metadata(path: Path, data: bytes, cure: str) -> dict[str, str]:
    """What the footer says of a file; a checksum that was made up protects no footer."""
    import polars as pl

    with readable(path, cure=cure):
        return pl.read_parquet_metadata(BytesIO(data))


@contextmanager
def readable(path: Path, *, cure: str) -> Iterator[None]:
    """Report as a `LedgerError` that Polars cannot read what is in `path`."""
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise LedgerError(f"{path} cannot be read ({_reason(error)}): {cure}") from error


def parse_parquet(data: bytes) -> pl.DataFrame:
    """The content of any Parquet file; raises `DamagedParquetError`.

    On some damaged files Polars panics: it raises what is no `Exception`, and writes to standard
    error past Python, which is held back here.
    """
    with _silent_stderr():
        return _parse(data)


def parse_foreign_parquet(data: bytes) -> pl.DataFrame:
    """The content of a Parquet file that somebody else made; raises as `parse_parquet` does.

    There are damaged files on which Polars ends the whole process. So another process reads it
    first, which takes half a second.
    """
    child = subprocess.run(
        [sys.executable, "-c", _TRIAL], input=data, capture_output=True, check=False
    )
    if child.returncode < 0:  # ended by a signal; what merely fails says why below
        raise DamagedParquetError("reading it ends the process that tries")
    if child.returncode == _TOO_DEEP:
        raise DamagedParquetError(f"a column is nested more than {DEEPEST} levels")
    return parse_parquet(data)


def _parse(data: bytes) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise DamagedParquetError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing reaches file descriptor 2."""
    with _STDERR:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(nowhere)
            os.close(kept)
