"""Verdicts of further judges on draws that are on record, beside the ledger's own.

    DIR/verdicts/DIGEST/judge.json             which judge; DIGEST is of its id
    DIR/verdicts/DIGEST/part-000001.parquet    stream, prompt_id, index, score, reason
    DIR/verdicts/DIGEST/.lock                  held by the one process that writes

Parts are written as the ledger's shards are: in full or not at all, and never changed. Where a draw
stands in two parts, the later one holds.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tailbound.contract import Verdict
from tailbound.errors import LedgerError, UsageError
from tailbound.files import TEMPORARY_PREFIX, TEMPORARY_SUFFIX, write_json, write_shard
from tailbound.interrupts import uninterrupted
from tailbound.ledger.lock import FolderLock
from tailbound.ledger.rows import storable_verdict

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1

Key = tuple[str, str, int]
"""Which draw: (stream, prompt id, index)."""


def columns() -> dict[str, Any]:
    """Names and Polars types of a part's columns; `score` is null where the verdict is missing."""
    import polars as pl

    return {
        "schema": pl.Int16,
        "stream": pl.String,
        "prompt_id": pl.String,
        "index": pl.Int64,
        "score": pl.Float64,
        "reason": pl.String,
    }


def judge_digest(judge_id: str) -> str:
    """First 16 hex digits of the SHA-256 of a judge's id: the name of its folder."""
    return hashlib.sha256(judge_id.encode()).hexdigest()[:16]


def verdicts_folder(run: Path, judge_id: str) -> Path:
    """Where the verdicts of that judge on the draws of `run` lie."""
    return run / "verdicts" / judge_digest(judge_id)


def read_verdicts(folder: Path) -> pl.DataFrame:
    """All verdicts in `folder`, one row per draw, the latest; empty where there are none.

    Raises `LedgerError` where a part is damaged or of another version.
    """
    import polars as pl

    frames = []
    for part in _parts(folder):
        try:
            frame = pl.read_parquet(part, glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise LedgerError(
                f"{part} is damaged ({str(error).partition(chr(10))[0]}): remove it and its draws "
                "will be judged again"
            ) from error
        if dict(frame.schema) != columns() or (frame["schema"] != SCHEMA).any():
            raise LedgerError(f"{part} was not written by this version of tailbound: remove it")
        frames.append(frame)
    if not frames:
        return pl.DataFrame(schema=columns())
    return pl.concat(frames).unique(
        ["stream", "prompt_id", "index"], keep="last", maintain_order=True
    )


class VerdictWriter:
    """Appends verdicts to `folder`; a context manager.

    Rows are written when there are `flush_rows` of them, when the oldest is `flush_seconds` old,
    and on `close`. Raises `RunLockedError` where another process is judging with the same judge.
    """

    def __init__(
        self,
        folder: Path,
        *,
        judge: str,
        judge_id: str,
        flush_rows: int = 4096,
        flush_seconds: float = 5.0,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror}") from error
        self._folder = folder
        self._lock = FolderLock(folder)
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._rows: list[tuple[int, str, str, int, float | None, str | None]] = []
        self._oldest = math.inf
        for path in folder.glob(f"{TEMPORARY_PREFIX}part-*{TEMPORARY_SUFFIX}"):
            path.unlink(missing_ok=True)
        self._next = 1 + max(map(_number, _parts(folder)), default=0)
        try:
            self._name(judge, judge_id)
        except BaseException:
            self._lock.release()
            raise

    def append(self, key: Key, verdict: Verdict) -> None:
        """Record one verdict."""
        if not self._rows:
            self._oldest = time.monotonic()
        verdict = storable_verdict(verdict)
        self._rows.append((SCHEMA, *key, verdict.score, verdict.reason))
        old = time.monotonic() - self._oldest >= self._flush_seconds
        if old or len(self._rows) >= self._flush_rows:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered; when it returns it is on the disk."""
        import polars as pl

        if not self._rows:
            return
        frame = pl.DataFrame(self._rows, schema=columns(), orient="row")
        with uninterrupted():
            # one process writes here, so numbers do not meet
            write_shard(self._folder / f"part-{self._next:06d}.parquet", frame)
            self._next += 1
            self._rows.clear()

    def close(self) -> None:
        """Write what is buffered and let the folder go."""
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

    def _name(self, judge: str, judge_id: str) -> None:
        path = self._folder / "judge.json"
        if not path.exists():
            write_json(path, {"schema": SCHEMA, "judge": judge, "judge_id": judge_id})
            return
        try:
            held = json.loads(path.read_text(encoding="utf-8"))["judge_id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{path} is damaged ({error!r}): remove it and it will be written anew"
            ) from error
        if held != judge_id:
            raise LedgerError(f"{self._folder} holds verdicts of {held}, not {judge_id}")


def _parts(folder: Path) -> list[Path]:
    """The parts in the order in which they were written; other files are none of ours."""
    found = [path for path in folder.glob("part-*.parquet") if path.stem[5:].isdecimal()]
    return sorted(found, key=_number)


def _number(part: Path) -> int:
    return int(part.stem[5:])
