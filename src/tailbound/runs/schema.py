"""The columns of the shards in `draws/`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

#: Goes up whenever a column changes its meaning, appears or goes.
SCHEMA_VERSION = 1


def columns() -> dict[str, Any]:
    """Names and Polars types of the columns, in their order.

    `schema` is the version; `stopping` says when the stream stops asking for more draws of a
    prompt (`fixed`, or `first-event`), which decides the formulas that may be used on it;
    `proposal` is the id of the distribution that was sampled, null for the target itself;
    `text` and `token_ids` are null where responses are not stored; `tokens` counts them as the
    engine does, the stop token included, null where it does not; `log_prob` is null where the
    engine does not tell; `verdict` is `scored` or `missing`, `score` null and `reason` set where
    it is missing.
    """
    import polars as pl

    return {
        "schema": pl.Int16,
        "run": pl.String,
        "stream": pl.String,
        "stopping": pl.String,
        "prompt_id": pl.String,
        "index": pl.Int64,
        "contract": pl.String,
        "proposal": pl.String,
        "text": pl.String,
        "token_ids": pl.List(pl.Int32),
        "tokens": pl.Int32,
        "finish_reason": pl.String,
        "log_prob": pl.Float64,
        "score": pl.Float64,
        "verdict": pl.String,
        "reason": pl.String,
        "judge": pl.String,
        "seed": pl.Int64,
    }


def empty_frame() -> pl.DataFrame:
    """No draws, with the right columns."""
    import polars as pl

    return pl.DataFrame(schema=columns())
