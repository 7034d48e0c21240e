"""The rounds of `tailbound risk`: written down before they are drawn, so a resume reads the same.

DIR/plan/round-0001.json    {"schema": 1, "proposals": names of all proposals,
                             "sequential": whether the number of rounds depends on the draws,
                             "batches": {prompt id: counts per proposal}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.runs.layout import PLAN, round_name
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One batch for each of some prompts.

    `proposals` are the names of all proposals, None for the target itself; `batches` the number of
    draws from each, by prompt id. `sequential` says that whether another round follows depends on
    what this one brings.
    """

    proposals: Sequence[str | None]
    sequential: bool
    batches: Mapping[str, Sequence[int]]


def read_rounds(folder: Path) -> Iterator[Round]:
    """The rounds of the run in `folder`, in order; `LedgerError` where a file is damaged."""
    number = 1
    while (path := folder / PLAN / round_name(number)).is_file():
        document = read_json(path)
        with understood(path):
            found = Round(
                proposals=list(document["proposals"]),
                sequential=bool(document["sequential"]),
                batches={
                    str(name): [int(count) for count in counts]
                    for name, counts in document["batches"].items()
                },
            )
        yield found
        number += 1


def write_round(folder: Path, number: int, planned: Round) -> None:
    """Write down round `number` (from 1); `LedgerError` where the system refuses."""
    make_folder(folder / PLAN)
    write_json(
        folder / PLAN / round_name(number),
        {
            "schema": SCHEMA,
            "proposals": list(planned.proposals),
            "sequential": planned.sequential,
            "batches": {name: list(counts) for name, counts in planned.batches.items()},
        },
    )


def first_round(draws: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """The draws of the first round of `tailbound risk`: their number was fixed in advance.

    `draws` has columns `prompt_id` and `index`. How many there are in later rounds depends on what
    the first ones brought, so their counts are not binomial. All of `draws` where nothing was
    planned in rounds.
    """
    import polars as pl

    first = next(read_rounds(folder), None)
    if first is None:
        return draws
    sizes = {name: sum(counts) for name, counts in first.batches.items()}
    planned = pl.col("prompt_id").replace_strict(sizes, default=0, return_dtype=pl.Int64)
    return draws.filter(pl.col("index") <= planned)
