"""Verdicts of further judges on draws that are on record, beside the ledger's own.

    DIR/verdicts/DIGEST/judge.json             which judge; DIGEST is of its id
    DIR/verdicts/DIGEST/part-000001.parquet    stream, prompt_id, index, score, reason
    DIR/verdicts/DIGEST/.lock                  held by the one process that writes

Where a draw is in two shards, the later one counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import Verdict
from tailbound.errors import LedgerError
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import JUDGE, RISK_TABLE, VERDICTS
from tailbound.runs.lock import FolderLock
from tailbound.runs.rows import storable_verdict
from tailbound.runs.shards import ShardStore, ShardWriter
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, remove_unfinished, write_json

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1

Key = tuple[str, str, int]
"""Which draw: (stream, prompt id, index)."""

_Row = tuple[int, str, str, int, float | None, str | None]


def columns() -> dict[str, Any]:
    """Names and Polars types of a shard's columns; `score` is null where the verdict is missing."""
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
    return run / VERDICTS / judge_digest(judge_id)


def read_verdicts(folder: Path) -> pl.DataFrame:
    """All verdicts in `folder`, one row per draw, the latest; empty where there are none.

    Raises `LedgerError` where a part is damaged, of another version, or of other draws or judges.
    """
    import polars as pl

    frames = []
    for path, frame in _store(folder).frames():
        if dict(frame.schema) != columns() or (frame["schema"] != SCHEMA).any():
            raise LedgerError(f"{path} was not written by this version of tailbound: remove it")
        frames.append(frame)
    if not frames:
        return pl.DataFrame(schema=columns())
    return pl.concat(frames).unique(
        ["stream", "prompt_id", "index"], keep="last", maintain_order=True
    )


class VerdictWriter(ShardWriter[_Row]):
    """Appends verdicts to `folder`, which is `verdicts_folder(...)`; a context manager.

    Rows are written as `ShardWriter` says. Raises `RunLockedError` where another process is judging
    with the same judge.
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
        lock = FolderLock(folder)
        try:
            remove_unfinished(folder)
            super().__init__(
                _store(folder), lock, flush_rows=flush_rows, flush_seconds=flush_seconds
            )
            self._name(judge, judge_id)
        except BaseException:
            lock.release()
            raise

    def append(self, key: Key, verdict: Verdict) -> None:
        """Record one verdict."""
        verdict = storable_verdict(verdict)
        self._add((SCHEMA, *key, verdict.score, verdict.reason))

    def _frame(self, rows: Sequence[_Row]) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame(rows, schema=columns(), orient="row")

    def _name(self, judge: str, judge_id: str) -> None:
        path = self._folder / JUDGE
        if not path.exists():
            write_json(path, {"schema": SCHEMA, "judge": judge, "judge_id": judge_id})
            return
        cure = "remove it and it will be written again"
        document = read_json(path, cure=cure)
        with understood(path, cure=cure):
            held = document["judge_id"]
        if held != judge_id:
            raise LedgerError(f"{self._folder} holds verdicts of {held}, not {judge_id}")


def _store(folder: Path) -> ShardStore:
    """The verdicts in DIR/verdicts/DIGEST, sealed as those of that judge on the draws of DIR."""
    return ShardStore(
        folder,
        belongs_to=lambda: f"{read_identity(folder.parent.parent).digest} {folder.name}",
        cure="remove it and its draws will be judged again",
        beside=(RISK_TABLE,),
    )
