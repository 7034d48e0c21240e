"""Writing a ledger: one process, buffered rows, whole shards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tailbound.core.contract import Draw, SamplingContract, Verdict
from tailbound.errors import UsageError
from tailbound.runs.compaction import remove_replaced
from tailbound.runs.draws import StreamRecord, StreamTotals, draw_store, index, totals
from tailbound.runs.identity import agree
from tailbound.runs.layout import DRAWS, RESULTS, VERDICTS
from tailbound.runs.lock import FolderLock
from tailbound.runs.rows import storable
from tailbound.runs.schema import SCHEMA_VERSION, columns
from tailbound.runs.shards import ShardWriter
from tailbound.storage.files import make_folder, remove_unfinished

if TYPE_CHECKING:
    import polars as pl


class _Row(NamedTuple):
    draw: Draw
    verdict: Verdict
    stopping: str
    proposal: str | None


class Ledger(ShardWriter[_Row]):
    """The draws of one run, open for appending; a context manager.

    Rows are buffered and written as one shard when there are `flush_rows` of them, when the
    oldest is `flush_seconds` old (looked at on each `append` and `flush_if_due`), on `flush` and
    on `close`. What has been flushed survives anything.
    """

    def __init__(
        self,
        folder: Path,
        lock: FolderLock,
        *,
        run: str,
        contract: str,
        judge_id: str,
        seed: int,
        store_text: bool,
        flush_rows: int,
        flush_seconds: float,
    ) -> None:
        """Use `Ledger.open`."""
        super().__init__(
            draw_store(folder), lock, flush_rows=flush_rows, flush_seconds=flush_seconds
        )
        self.folder = folder
        self._constants = {
            "schema": SCHEMA_VERSION,
            "run": run,
            "contract": contract,
            "judge": judge_id,
            "seed": seed,
        }
        self._store_text = store_text

    @classmethod
    def open(
        cls,
        folder: str | PathLike[str],
        *,
        run: str,
        contract: SamplingContract,
        judge_id: str,
        seed: int,
        store_text: bool = True,
        flush_rows: int = 4096,
        flush_seconds: float = 5.0,
    ) -> Ledger:
        """Create the ledger in `folder`, or continue the existing one.

        `run` names the run in every row. Without `store_text`, response texts and token ids are
        left out of the record (their number is kept).

        Raises `RunLockedError` where another process is writing to the folder,
        `ContractMismatchError` where its draws were made under another contract, judge or seed,
        and `LedgerError` where the record is damaged or of another version, or the system refuses
        to write there.
        """
        if not 0 <= seed < 2**63:
            raise UsageError(f"the seed must lie in [0, 2^63), not {seed}")
        home = Path(folder)
        make_folder(home / DRAWS)
        lock = FolderLock(home)
        try:
            _remove_unfinished(home)
            remove_replaced(home)
            agree(home, contract=contract, judge=judge_id, seed=seed)
            return cls(
                home,
                lock,
                run=run,
                contract=contract.digest,
                judge_id=judge_id,
                seed=seed,
                store_text=store_text,
                flush_rows=flush_rows,
                flush_seconds=flush_seconds,
            )
        except BaseException:
            lock.release()
            raise

    def append(
        self, draw: Draw, verdict: Verdict, stopping: str, *, proposal: str | None = None
    ) -> Verdict:
        """Record one judged draw; `stopping` names the stopping rule of its stream.

        The verdict that is put on record is returned: a missing one where the draw cannot be
        stored as it is. Raises `LedgerError` where the disk refuses; the rows stay buffered.
        """
        draw, verdict = storable(draw, verdict)
        self._add(_Row(draw, verdict, stopping, proposal))
        return verdict

    def index(self, stream: str) -> dict[str, StreamRecord]:
        """The draws of a stream that are on record, by prompt id; flushes first."""
        self.flush()
        return index(self.folder, stream)

    def totals(self) -> dict[str, StreamTotals]:
        """What each stream has cost so far, by its name; flushes first."""
        self.flush()
        return totals(self.folder)

    def _frame(self, rows: Sequence[_Row]) -> pl.DataFrame:
        import polars as pl

        draws = [row.draw for row in rows]
        verdicts = [row.verdict for row in rows]
        texts = [draw.text if self._store_text else None for draw in draws]
        tokens = [draw.token_ids if self._store_text else None for draw in draws]
        values: dict[str, Any] = {
            "stream": [draw.stream for draw in draws],
            "stopping": [row.stopping for row in rows],
            "prompt_id": [draw.prompt_id for draw in draws],
            "index": [draw.index for draw in draws],
            "proposal": [row.proposal for row in rows],
            "text": texts,
            "token_ids": tokens,
            "tokens": [draw.tokens for draw in draws],
            "finish_reason": [draw.finish_reason for draw in draws],
            "log_prob": [None if math.isnan(draw.log_prob) else draw.log_prob for draw in draws],
            "score": [verdict.score for verdict in verdicts],
            "verdict": ["missing" if verdict.missing else "scored" for verdict in verdicts],
            "reason": [verdict.reason for verdict in verdicts],
        }
        schema = columns()
        frame = pl.DataFrame(values, schema={name: schema[name] for name in values})
        return frame.with_columns(
            pl.lit(value, dtype=schema[name]).alias(name) for name, value in self._constants.items()
        ).select(*schema)


def _remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left behind; the lock is ours, so nobody is writing it.

    Verdicts and earlier results have locks of their own.
    """
    remove_unfinished(folder)
    for home in folder.iterdir():
        if home.is_dir() and home.name not in (VERDICTS, RESULTS):
            remove_unfinished(home)
