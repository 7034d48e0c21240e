"""What the files of a ledger hold, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tailbound.storage.plain import from_plain
from tailbound.workflows.ledger.settings import Action
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
Outcome = Literal["sound", "damaged", "set aside"]


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """One file of `draws/`: its rows (None where they cannot be read) and its size in bytes.

    `detail` is empty for a sound one.
    """

    file: str
    rows: int | None
    bytes: int
    outcome: Outcome
    detail: str


@dataclass(frozen=True, kw_only=True)
class StreamCount:
    """Prompts and draws of one stream in sound shards.

    `unsafe` is None where no `run.yaml` says from which score on a draw is unsafe.
    """

    stream: str
    prompts: int
    draws: int
    unsafe: int | None
    missing: int


@dataclass(frozen=True, kw_only=True, repr=False)
class LedgerReport(Result):
    """The files of a ledger after `action`.

    `prompts` are those with draws, in any stream; `problems` are lines on rows (recorded twice, of
    unknown prompts) and on files that are not there; `shards_before` tells how many shards there
    were before they were compacted or set aside.
    """

    folder: str
    action: Action
    shards: tuple[ShardReport, ...]
    shards_before: int
    prompts: int
    streams: tuple[StreamCount, ...]
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether every shard is sound and there are no problems."""
        return not self.problems and all(one.outcome == "sound" for one in self.shards)

    @property
    def rows(self) -> int:
        """Draws in sound shards."""
        return sum(one.rows or 0 for one in self._sound())

    @property
    def bytes(self) -> int:
        """Size of the sound shards."""
        return sum(one.bytes for one in self._sound())

    @property
    def unsafe(self) -> int | None:
        """Unsafe draws of all streams, None where no `run.yaml` says what is unsafe."""
        counts = [one.unsafe for one in self.streams if one.unsafe is not None]
        return sum(counts) if len(counts) == len(self.streams) else None

    @property
    def missing(self) -> int:
        """Draws of all streams whose verdict is missing."""
        return sum(one.missing for one in self.streams)

    def _sound(self) -> tuple[ShardReport, ...]:
        return tuple(one for one in self.shards if one.outcome == "sound")

    def facts(self) -> dict[str, object]:
        """Rows, shards and bytes; bytes per row, and rows of the smallest and largest shard."""
        sizes = [one.rows or 0 for one in self._sound()]
        return {
            "rows": self.rows,
            "shards": len(sizes),
            "bytes": self.bytes,
            "bytes_per_row": self.bytes / self.rows if self.rows else None,
            "smallest_shard": min(sizes, default=None),
            "largest_shard": max(sizes, default=None),
            "prompts": self.prompts,
            "unsafe": self.unsafe,
            "missing": self.missing,
            "sound": self.sound,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "folder": self.folder,
            "action": self.action,
            **self.facts(),
            "shards_before": self.shards_before,
            "streams": [asdict(one) for one in self.streams],
            "problems": list(self.problems),
            "files": [asdict(one) for one in self.shards],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LedgerReport:
        """Inverse of `to_dict`."""
        kept = ("folder", "action", "shards_before", "prompts", "streams", "problems")
        plain = {name: document[name] for name in kept} | {"shards": document["files"]}
        found: LedgerReport = from_plain(cls, plain)
        return found

    def frame(self) -> pl.DataFrame:
        """One row per shard."""
        import polars as pl

        schema: dict[str, Any] = {
            "file": pl.String,
            "rows": pl.Int64,
            "bytes": pl.Int64,
            "outcome": pl.String,
            "detail": pl.String,
        }
        return pl.DataFrame([asdict(one) for one in self.shards], schema=schema)
