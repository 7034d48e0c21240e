"""Folders of shards: numbered, sealed Parquet files that are only ever added to.

    FOLDER/part-000001.parquet, part-000002.parquet, ...

The draws of a run, the verdicts of other judges and the scores of draws are kept so. A shard
appears in full or not at all, is never changed afterwards, and is sealed as belonging to one run
(`tailbound.storage.parquet`).

    FOLDER/part-000001-000040.parquet

holds the rows of shards 1 to 40 in their order (`tailbound.runs.compaction`). From the moment at
which it is in place those shards do not count, whether they are still there or not.
"""

from __future__ import annotations

import math
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from tailbound.core.interrupts import uninterrupted
from tailbound.errors import LedgerError
from tailbound.runs.layout import part_name
from tailbound.runs.lock import FolderLock
from tailbound.storage.files import make_folder
from tailbound.storage.parquet import check_sealed, read_sealed, write_sealed

if TYPE_CHECKING:
    import polars as pl

_PART = re.compile(r"part-([0-9]{6,12})(?:-([0-9]{6,12}))?\.parquet")
Row = TypeVar("Row")


class ShardStore:
    """The shards in one folder.

    `belongs_to` says what they are sealed as; it is asked for at the first shard that is read or
    written. `cure` says what a user can do about a damaged shard. `beside` names Parquet files of
    ours that stand in the same folder and are no shards. `columns` are names and types of
    the columns, where shards with others are to be refused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        belongs_to: Callable[[], str],
        cure: str,
        beside: tuple[str, ...] = (),
        columns: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Nothing is read or written yet."""
        self._columns = columns
        self.folder = folder
        self._beside = beside
        self._of = belongs_to
        self._cure = cure
        self._last: int | None = None

    @cached_property
    def belongs_to(self) -> str:
        """What every shard is sealed as belonging to."""
        return self._of()

    def paths(self) -> list[Path]:
        """The shards in the order of their numbers, unchecked; raises as `part_files` does."""
        return part_files(self.folder, beside=self._beside)

    def checked(self) -> list[Path]:
        """The shards in order, every one read and compared with its seal.

        Raises `LedgerError` where one is damaged or belongs to something else.
        """
        found = self.paths()
        for path in found:
            check_sealed(path, of=self.belongs_to, cure=self._cure)
        return found

    def frames(self) -> Iterator[tuple[Path, pl.DataFrame]]:
        """Every shard and its content, in order; raises as `read` does."""
        for path in self.paths():
            yield path, self.read(path)

    def read(self, path: Path) -> pl.DataFrame:
        """The content of one shard; raises as `checked` does, and for other columns."""
        frame = read_sealed(path, of=self.belongs_to, cure=self._cure)
        self._check_columns(path, frame.schema)
        return frame

    def _check_columns(self, path: Path, found: Mapping[str, Any]) -> None:
        if self._columns is not None and dict(found) != dict(self._columns()):
            raise LedgerError(
                f"{path} has the columns of another version of tailbound: use the version that "
                f"wrote it, or move it out of {path.parent} and its rows will be made again"
            )

    def prepare(self) -> int:
        """Make the folder and find the number of the last shard, before anything is spent.

        Raises `LedgerError` for a file that should not be there, and where the system refuses.
        """
        if self._last is None:
            make_folder(self.folder)
            _ = self.belongs_to
            self._last = max((numbers(path)[1] for path in self.paths()), default=0)
        return self._last

    def write(self, frame: pl.DataFrame) -> None:
        """Add `frame` as the next shard; when it returns, it is on the disk.

        Raises `LedgerError` where the system refuses. A shard that could not be written, or not for
        certain, keeps its number: the next attempt takes its place. Only one process may write.
        """
        last = self.prepare()
        with uninterrupted():
            write_sealed(self.folder / part_name(last + 1), frame, of=self.belongs_to)
            self._last = last + 1


class ShardWriter(ABC, Generic[Row]):
    """Buffers rows and writes them to a store as whole shards; a context manager.

    Rows are written when there are `flush_rows` of them, when the oldest is `flush_seconds` old
    (looked at on each row and on `flush_if_due`), on `flush` and on `close`. `lock` is held from
    before the writer was made until `close`.
    """

    def __init__(
        self, store: ShardStore, lock: FolderLock, *, flush_rows: int, flush_seconds: float
    ) -> None:
        store.prepare()
        self._store = store
        self._lock = lock
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._rows: list[Row] = []
        self._oldest = math.inf

    @abstractmethod
    def _frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """The rows as a table."""

    def _add(self, row: Row) -> None:
        """Buffer one row, and write where that is due."""
        if not self._rows:
            self._oldest = time.monotonic()
        self._rows.append(row)
        if len(self._rows) >= self._flush_rows:
            self.flush()
        else:
            self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flush where the oldest buffered row is older than `flush_seconds`."""
        if self._rows and time.monotonic() - self._oldest >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows as one shard; when it returns they are on the disk.

        Rows whose shard could not be written, or may not have been, stay buffered; the next shard
        holds them as well and takes the place of that one, so that no row is recorded twice.
        """
        if not self._rows:
            return
        frame = self._frame(self._rows)
        with uninterrupted():
            self._store.write(frame)
            self._rows = []

    def close(self) -> None:
        """Write what is buffered and release the folder."""
        try:
            self.flush()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def part_files(folder: Path, *, beside: tuple[str, ...] = ()) -> list[Path]:
    """`part-000001.parquet` and its successors in `folder`, in the order of their numbers.

    Shards that a compacted one replaces, unfinished files, those that are not Parquet files, and
    `beside` are passed over. Raises `LedgerError` for a Parquet file of another name, and for two
    compacted shards of which each holds some of the same: nobody can tell what should count.
    """
    return sorted_out(_every_part(folder, beside))[0]


def replaced_files(folder: Path) -> list[Path]:
    """Shards whose rows a compacted one holds, which a killed compaction did not remove."""
    return sorted_out(_every_part(folder, ()))[1]


def numbers(part: Path) -> tuple[int, int]:
    """The first and the last of the numbers that a shard stands for.

    >>> numbers(Path("part-000007.parquet")), numbers(Path("part-000001-000040.parquet"))
    ((7, 7), (1, 40))
    """
    first, _, last = part.stem.removeprefix("part-").partition("-")
    return int(first), int(last or first)


def is_part(name: str) -> bool:
    """Whether a file has the name of a shard."""
    return _PART.fullmatch(name) is not None


def sorted_out(parts: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The shards that count, and those that a compacted one replaces; raises as `part_files`."""
    counting: list[Path] = []
    replaced: list[Path] = []
    end = 0
    every = [(numbers(path), path) for path in parts]
    for (first, last), path in sorted(every, key=lambda one: (one[0][0], -one[0][1])):
        if last <= end:
            replaced.append(path)
            continue
        if first <= end or last < first:
            raise LedgerError(
                f"{path} holds some of the draws of {counting[-1].name if counting else 'none'}, "
                f"and others: one of the two is of another folder, so move it out of {path.parent}"
            )
        counting.append(path)
        end = last
    return counting, replaced


def _every_part(folder: Path, beside: tuple[str, ...]) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LedgerError(
            f"{folder} cannot be read ({error.strerror or error}): check the path and its rights"
        ) from error
    found = []
    for path in (folder / name for name in names if name.endswith(".parquet")):
        if path.name.startswith(".") or path.name in beside:
            continue
        if not is_part(path.name) or not path.is_file():
            raise LedgerError(
                f"{path} does not have the name of a file that tailbound writes there "
                f"(part-000001.parquet, ...): restore its name, or move it out of {folder}"
            )
        found.append(path)
    return found
