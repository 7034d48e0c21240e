"""Which draws of a run are exported: all unsafe ones, and a random sample of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from tailbound.errors import UsageError
from tailbound.runs import scan
from tailbound.workflows.summarize.counting import ordered_draws

if TYPE_CHECKING:
    import polars as pl

Said = Literal["unsafe", "safe", "missing"]
"""What the run's judge said of a draw."""
KEY = ("stream", "prompt_id", "index")


@dataclass(frozen=True, kw_only=True)
class ExportedStratum:
    """Draws of one stream with one verdict; `weighted` ones were drawn from a proposal."""

    stream: str
    weighted: bool
    said: Said
    draws: int
    exported: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The exported draws, ordered by stream, prompt and index, and what they are of all draws.

    `frame` has every column of the ledger that an export needs, and `said`. `shares` is the
    inclusion probability of a draw by its kind (`kind_of`).
    """

    frame: pl.DataFrame
    strata: tuple[ExportedStratum, ...]
    shares: dict[str, float]
    prompt_streams: dict[str, tuple[str, ...]]

    @property
    def draws(self) -> int:
        """How many draws are on record."""
        return sum(one.draws for one in self.strata)


def kind_of(said: str, *, weighted: bool) -> str:
    """What a draw is sampled as: by its verdict, and whether it was drawn from a proposal.

    >>> kind_of("safe", weighted=False), kind_of("safe", weighted=True)
    ('safe', 'safe, weighted')
    """
    return f"{said}, weighted" if weighted else said


def select_draws(folder: Path, threshold: float, *, safe: int, seed: int) -> Selection:
    """All unsafe draws, `safe` of the safe ones and as many of those without a verdict.

    As many again of the weighted ones. Samples are simple random ones from all streams, the same
    for the same draws and seed. Raises `UsageError` where there are no draws.
    """
    import polars as pl

    every = ordered_draws(folder)
    if every.is_empty():
        raise UsageError(f"{folder} holds no draws: run it first")
    score = pl.col("score")
    said = (
        pl.when(score.is_null())
        .then(pl.lit("missing"))
        .when(score >= threshold)
        .then(pl.lit("unsafe"))
        .otherwise(pl.lit("safe"))
    )
    every = every.with_columns(said=said, weighted=pl.col("proposal").is_not_null())
    rng = np.random.default_rng(seed)
    rows: list[int] = []
    shares: dict[str, float] = {}
    for weighted in (False, True):
        of_kind = (every["weighted"] == weighted).to_numpy()
        for verdict, most in (("unsafe", None), ("safe", safe), ("missing", safe)):
            there = np.flatnonzero(of_kind & (every["said"] == verdict).to_numpy())
            kept = there.size if most is None else min(most, there.size)
            chosen = there if kept == there.size else rng.choice(there, kept, replace=False)
            rows += [int(row) for row in chosen]
            if there.size:
                shares[kind_of(verdict, weighted=weighted)] = kept / there.size
    exported = every[sorted(rows)].select(*KEY, "said", "weighted")
    by_prompt = every.group_by("prompt_id", maintain_order=True).agg(pl.col("stream").unique())
    return Selection(
        frame=_with_texts(folder, exported),
        strata=_strata(every, exported),
        shares=shares,
        prompt_streams={name: tuple(sorted(streams)) for name, streams in by_prompt.iter_rows()},
    )


def _with_texts(folder: Path, exported: pl.DataFrame) -> pl.DataFrame:
    """The exported draws with what the ledger holds of each; the rest is not read into memory."""
    import polars as pl

    columns = ("proposal", "text", "finish_reason", "tokens", "log_prob", "score", "reason")
    return (
        scan(folder)
        .select(*KEY, *columns)
        .with_columns(pl.col("score").fill_nan(None))
        .join(exported.lazy(), on=list(KEY), how="inner")
        .sort(*KEY)
        .collect()
    )


def _strata(every: pl.DataFrame, exported: pl.DataFrame) -> tuple[ExportedStratum, ...]:
    import polars as pl

    names = ["stream", "weighted", "said"]
    counted = every.group_by(names).agg(pl.len().alias("draws"))
    kept = exported.group_by(names).agg(pl.len().alias("exported"))
    table = counted.join(kept, on=names, how="left").with_columns(pl.col("exported").fill_null(0))
    return tuple(
        ExportedStratum(stream=stream, weighted=weighted, said=said, draws=draws, exported=held)
        for stream, weighted, said, draws, held in table.sort(*names).iter_rows()
    )


def draws_where(strata: Sequence[ExportedStratum], **wanted: object) -> tuple[int, int]:
    """(draws on record, draws exported) of the strata with these values."""
    found = [one for one in strata if all(getattr(one, name) == v for name, v in wanted.items())]
    return sum(one.draws for one in found), sum(one.exported for one in found)
