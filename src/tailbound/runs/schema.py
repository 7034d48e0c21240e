"""The columns of a shard."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.errors import LedgerError

if TYPE_CHECKING:
    import polars as pl

_PART = re.compile(r"part-[0-9]{6,12}\.parquet")

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


def draws_folder(folder: Path) -> Path:
    """Where the shards of a run lie."""
    return folder / "draws"


def shards(folder: Path) -> list[Path]:
    """The shards of a run in the order in which they were written; raises as `part_files` does."""
    return part_files(draws_folder(folder))


def part_files(folder: Path) -> list[Path]:
    """`part-000001.parquet` and its successors in `folder`, in the order of their numbers.

    Unfinished files and those that are no Parquet files are passed over. Raises `LedgerError` for
    a Parquet file of another name: nobody can tell whether it should count.
    """
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LedgerError(
            f"{folder} cannot be read ({error.strerror or error}): check the path and its rights"
        ) from error
    found = []
    for path in (folder / name for name in names if name.endswith(".parquet")):
        if path.name.startswith("."):
            continue
        if not _PART.fullmatch(path.name) or not path.is_file():
            raise LedgerError(
                f"{path} does not have the name of a file that tailbound writes there "
                f"(part-000001.parquet, ...): restore its name, or move it out of {folder}"
            )
        found.append(path)
    return sorted(found, key=part_number)


def part_name(number: int) -> str:
    """The name of part number 1, 2, ..."""
    return f"part-{number:06d}.parquet"


def part_number(part: Path) -> int:
    """Its number, by its name."""
    return int(part.stem.removeprefix("part-"))


def empty_frame() -> pl.DataFrame:
    """No draws, with the right columns."""
    import polars as pl

    return pl.DataFrame(schema=columns())
