"""Verdicts of further judges on draws that are on record, beside the ledger's own.

    DIR/verdicts/DIGEST/judge.json             which judge; DIGEST is of its id
    DIR/verdicts/DIGEST/part-000001.parquet    stream, prompt_id, index, score, reason
    DIR/verdicts/DIGEST/.lock                  held by the one process that writes

PromptSplit are written as the ledger's shards are: in full or not at all, and never changed. Where
a draw stands in two parts, the later one holds.
"""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tailbound.contract import Verdict
from tailbound.errors import LedgerError
from tailbound.interrupts import uninterrupted
from tailbound.runs.identity import read_identity
from tailbound.runs.lock import FolderLock
from tailbound.runs.rows import storable_verdict
from tailbound.runs.schema import part_files, part_name, part_number
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, remove_unfinished, write_json
from tailbound.storage.parquet import read_sealed, write_sealed

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

    Raises `LedgerError` where a part is damaged, of another version, or of other draws or judges.
    """
    import polars as pl

    frames = []
    found = part_files(folder)
    if not found:
        return pl.DataFrame(schema=columns())
    belongs_to = _belongs_to(folder)
    for part in found:
        frame = read_sealed(
            part, of=belongs_to, cure="remove it and its draws will be judged again"
        )
        if dict(frame.schema) != columns() or (frame["schema"] != SCHEMA).any():
            raise LedgerError(f"{part} was not written by this version of tailbound: remove it")
        frames.append(frame)
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
        make_folder(folder)
        self._folder = folder
        self._lock = FolderLock(folder)
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._rows: list[tuple[int, str, str, int, float | None, str | None]] = []
        self._oldest = math.inf
        try:
            remove_unfinished(folder)
            self._next = 1 + max(map(part_number, part_files(folder)), default=0)
            self._name(judge, judge_id)
            self._belongs_to = _belongs_to(folder)
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
        """Write what is buffered; when it returns it is on the disk. As `Ledger.flush`."""
        import polars as pl

        if not self._rows:
            return
        frame = pl.DataFrame(self._rows, schema=columns(), orient="row")
        with uninterrupted():
            write_sealed(self._folder / part_name(self._next), frame, of=self._belongs_to)
            self._rows, self._next = [], self._next + 1

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
        cure = "remove it and it will be written again"
        document = read_json(path, cure=cure)
        with understood(path, cure=cure):
            held = document["judge_id"]
        if held != judge_id:
            raise LedgerError(f"{self._folder} holds verdicts of {held}, not {judge_id}")


def _belongs_to(folder: Path) -> str:
    """Of which draws and which judge the verdicts in DIR/verdicts/DIGEST are."""
    return f"{read_identity(folder.parent.parent).digest} {folder.name}"
