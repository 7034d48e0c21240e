"""From the table of a ledger to what is counted for each prompt of a stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import LedgerError
from tailbound.missing_verdicts import unsafe_or_missing
from tailbound.runs import scan
from tailbound.runs.prompts import kept_table

if TYPE_CHECKING:
    import polars as pl

_FIXED_PARTS = ("train", "risk", "import")


def ordered_draws(folder: Path, *more: pl.Expr) -> pl.DataFrame:
    """Every draw on record by stream, prompt and index, each once; a score that is NaN is missing.

    Columns: stream, stopping, prompt_id, index, proposal, score, and `more`. Raises `LedgerError`
    where a draw stands twice or a shard is damaged.
    """
    import polars as pl

    frame = (
        scan(folder)
        .select("stream", "stopping", "prompt_id", "index", "proposal", "score", *more)
        .with_columns(pl.col("score").fill_nan(None))
        .sort("stream", "prompt_id", "index")
        .collect()
    )
    check_once(frame, folder)
    return frame


def check_once(frame: pl.DataFrame, folder: Path) -> None:
    """Every draw stands once in a frame sorted by stream, prompt and index."""
    import polars as pl

    again = pl.all_horizontal(
        pl.col(name) == pl.col(name).shift(1) for name in ("stream", "prompt_id", "index")
    )
    twice = frame.filter(again)
    if twice.height:
        row = twice.row(0, named=True)
        raise LedgerError(
            f"{folder} records draw {row['index']} of prompt {row['prompt_id']!r} in stream "
            f"{row['stream']!r} twice: was a shard in draws/ copied? Remove the copy"
        )


def fixed_counts(draws: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """(prompt_id, draws, unsafe, missing) of each prompt."""
    import polars as pl

    score = pl.col("score")
    return draws.group_by("prompt_id", maintain_order=True).agg(
        pl.len().alias("draws"),
        (score >= threshold).sum().alias("unsafe"),
        score.is_null().sum().alias("missing"),
    )


def first_event_counts(draws: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """The same, up to the first unsafe or missing draw of each prompt, by ascending index.

    Draws finish out of order: those after the first event, or after a gap, do not count; prompts
    whose first draw never came are left out.
    """
    import polars as pl

    place = pl.int_range(1, pl.len() + 1).over("prompt_id")
    found = unsafe_or_missing(draws["score"].to_numpy(), threshold)
    event = pl.Series("event", found).cast(pl.Int64)
    earlier = pl.col("event").cum_sum().over("prompt_id") - pl.col("event")
    counted = draws.with_columns(event).filter(pl.col("index") == place).filter(earlier == 0)
    return fixed_counts(counted, threshold)


def undrawn_prompts(folder: Path) -> int:
    """How many prompts that a fixed number of draws was planned of have none: a run that stopped.

    Those that it did not come to are no random part of all.
    """
    import polars as pl

    drawn = scan(folder).select("prompt_id").unique().collect()["prompt_id"]
    planned = kept_table(folder).filter(pl.col("part").is_in(_FIXED_PARTS))
    return int((~planned["id"].is_in(drawn.implode())).sum())


def clusters(folder: Path) -> dict[str, str]:
    """The cluster of each prompt: its group where it has one."""
    table = kept_table(folder)
    return {
        row[0]: f"group {row[1]}" if row[1] is not None else row[0]
        for row in table.select("id", "group").iter_rows()
    }
