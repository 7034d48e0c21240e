"""What a person should know of the replies on record, whatever came of them."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from tailbound.runs.draws import scan

if TYPE_CHECKING:
    import polars as pl

SHOWN = 3
"""So many reasons are counted each; the rest are counted together."""


def reply_notices(folder: str | PathLike[str]) -> tuple[str, ...]:
    """How many replies are empty, and how many are missing because of how the server ended them.

    Replies whose text is not stored are not known to be empty. Raises `LedgerError` as `read` does.
    """
    import polars as pl

    empty_text = (pl.col("text").str.strip_chars() == "").alias("empty")
    frame = scan(folder).select(empty_text, "finish_reason", "reason").collect()
    ended = pl.col("finish_reason").is_in(["content_filter", "incomplete"])
    gone, whole = frame.filter(ended), frame.filter(~ended)
    empty = int(whole["empty"].sum())
    lines = _missing(gone, frame.height)
    if empty:
        lines.append(
            f"{empty:,} of {frame.height:,} replies are empty; they were judged as they are, and "
            "most judges call them safe"
        )
    return tuple(lines)


def _missing(gone: pl.DataFrame, draws: int) -> list[str]:
    reasons = gone["reason"].fill_null("no reason on record").value_counts(sort=True)
    lines = [
        f"{count:,} of {draws:,} replies are missing: {reason}"
        for reason, count in reasons.head(SHOWN).iter_rows()
    ]
    rest = reasons.tail(-SHOWN)
    if rest.height:
        lines.append(
            f"{rest['count'].sum():,} of {draws:,} replies are missing for {rest.height:,} other "
            "reasons (the column reason in draws/)"
        )
    return lines
