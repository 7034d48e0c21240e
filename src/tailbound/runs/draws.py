"""Reading a ledger: as a table, as an index for resuming, as sums for the spend."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import LedgerError
from tailbound.runs.identity import read_identity
from tailbound.runs.layout import DRAWS
from tailbound.runs.schema import SCHEMA_VERSION, columns, empty_frame
from tailbound.runs.shards import ShardStore
from tailbound.storage.parquet import readable

if TYPE_CHECKING:
    import polars as pl

CURE = "restore it, or remove it and its draws will be made again"


@dataclass(frozen=True, slots=True, eq=False)
class StreamRecord:
    """The draws of one prompt in one stream, all arrays of shape (draws,), by ascending index.

    `scores` are NaN where the verdict is missing; `tokens` count the response, stop token
    included, 0 where nobody counted.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    tokens: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTotals:
    """What a stream has cost so far; `tokens` of the draws that were counted."""

    prompts: int
    draws: int
    tokens: int
    missing: int


def draw_store(folder: Path) -> ShardStore:
    """The shards of the run in `folder`, one row per draw."""
    return ShardStore(
        folder / DRAWS,
        belongs_to=lambda: read_identity(folder).digest,
        cure=CURE,
        columns=columns,
    )


def read_shard(store: ShardStore, path: Path) -> pl.DataFrame:
    """The draws in one shard of `draw_store`.

    Raises `LedgerError` where it is damaged, of another run or of another version.
    """
    frame = store.read(path)
    if not (frame["schema"] == SCHEMA_VERSION).all():
        raise LedgerError(
            f"{path} has the columns of another version of tailbound: use the version that wrote "
            f"it, or move it out of {path.parent} and its draws will be made again"
        )
    return frame


def rows_of(shard: Path) -> int:
    """The number of draws in a shard, from its footer alone; raises `LedgerError`."""
    import polars as pl

    try:
        return int(pl.scan_parquet(shard, glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise LedgerError(f"{shard} cannot be read ({reason}): {CURE}") from error


def scan(folder: str | PathLike[str]) -> pl.LazyFrame:
    """All draws of a run as a lazy Polars frame (columns: `tailbound.runs.schema.columns`).

    Raises `LedgerError` where a shard is damaged, of another run or of another version.
    """
    import polars as pl

    found = draw_store(Path(folder)).checked()
    if not found:
        return empty_frame().lazy()
    return pl.scan_parquet(found, schema=columns(), glob=False)


def read(folder: str | PathLike[str], *, stream: str | None = None) -> pl.DataFrame:
    """All draws of a run, or of one stream, in the order in which they were recorded.

    Raises `LedgerError` as `scan` does.
    """
    import polars as pl

    frame = scan(folder)
    if stream is not None:
        frame = frame.filter(pl.col("stream") == stream)
    with readable(Path(folder) / DRAWS, cure=CURE):
        return frame.collect()


def index(folder: str | PathLike[str], stream: str) -> dict[str, StreamRecord]:
    """For each prompt with draws in `stream`: which there are, and their scores.

    Raises `LedgerError` as `read` does, and where one draw is recorded twice.
    """
    import polars as pl

    table = (
        scan(folder)
        .filter(pl.col("stream") == stream)
        .select("prompt_id", "index", "score", "tokens")
        .collect()
    )
    if table.is_empty():
        return {}
    names = table["prompt_id"].unique().sort()
    prompt = table["prompt_id"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    indices = table["index"].to_numpy()
    # one number for both: names of a million draws are slow to sort
    key = prompt * (int(indices.max()) + 1) + indices
    order = np.argsort(key, kind="stable")
    key, prompt, indices = key[order], prompt[order], indices[order]
    twice = np.flatnonzero(key[1:] == key[:-1])
    if twice.size:
        row = int(twice[0])
        raise LedgerError(
            f"{folder} records draw {indices[row]} of prompt {names[int(prompt[row])]!r} in stream "
            f"{stream!r} twice: was a shard in draws/ copied? Remove the copy"
        )
    scores = table["score"].fill_null(float("nan")).to_numpy()[order]
    tokens = table["tokens"].fill_null(0).to_numpy()[order]
    bounds = np.searchsorted(prompt, np.arange(len(names) + 1)).tolist()
    return {
        name: StreamRecord(indices[start:end], scores[start:end], tokens[start:end])
        for name, start, end in zip(names, bounds[:-1], bounds[1:], strict=True)
    }


def totals(folder: str | PathLike[str]) -> dict[str, StreamTotals]:
    """Prompts, draws, tokens and missing verdicts of each stream, by its name."""
    import polars as pl

    table = (
        scan(folder)
        .group_by("stream")
        .agg(
            pl.col("prompt_id").n_unique().alias("prompts"),
            pl.len().alias("draws"),
            pl.col("tokens").cast(pl.Int64).sum(),
            pl.col("score").null_count().alias("missing"),
        )
        .sort("stream")
        .collect()
    )
    return {
        row["stream"]: StreamTotals(
            prompts=row["prompts"],
            draws=row["draws"],
            tokens=row["tokens"],
            missing=row["missing"],
        )
        for row in table.iter_rows(named=True)
    }
