"""Draws whose number was fixed beforehand, in runs that plan round by round."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.storage.documents import read_json, understood

if TYPE_CHECKING:
    import polars as pl


def first_round(draws: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The draws of the first round that `tailbound risk` planned: as many as it said beforehand.

    `draws` has columns `prompt_id` and `index`. How many there are in later rounds depends on what
    the first ones brought, so their counts are not binomial. All of `draws` where nothing was
    planned in rounds.
    """
    import polars as pl

    path = folder / "plan" / "round-0001.json"
    if not path.is_file():
        return draws
    document = read_json(path)
    with understood(path):
        sizes = {str(name): int(sum(counts)) for name, counts in document["batches"].items()}
    planned = pl.col("prompt_id").replace_strict(sizes, default=0, return_dtype=pl.Int64)
    return draws.filter(pl.col("index") <= planned)
