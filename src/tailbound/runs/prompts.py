"""The prompts of a run, kept beside its draws, so that an id never stands for two texts.

DIR/prompts.parquet    id, part, group, messages (JSON)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError
from tailbound.runs.layout import PROMPTS
from tailbound.storage.parquet import read_sealed, write_sealed

if TYPE_CHECKING:
    import polars as pl


def check_prompts(folder: Path, prompts: Iterable[Prompt]) -> None:
    """Raise `ContractMismatchError` where an id stands for another prompt in `folder`.

    Draws are found again by the ids of their prompts: those of one would pass for the other's.
    """
    held = dict(kept_table(folder).select("id", "messages").rows())
    for prompt in prompts:
        before = held.get(prompt.id)
        if before is not None and before != _text(prompt):
            raise ContractMismatchError(
                f"{folder} holds draws of another prompt with the id {prompt.id!r}: use another "
                "--out, or ids that differ"
            )


def load_prompts(folder: Path) -> dict[str, Prompt]:
    """The prompts of the run in `folder` by id, as far as they are known; empty without any."""
    return {
        name: Prompt(id=name, messages=tuple((role, text) for role, text in json.loads(messages)))
        for name, messages in kept_table(folder).select("id", "messages").rows()
        if messages is not None
    }


def save_prompts(folder: Path, parts: Mapping[str, Sequence[Prompt]]) -> None:
    """Save the prompts of each part; those of earlier calls stay. Checks as `check_prompts`."""
    import polars as pl

    check_prompts(folder, (prompt for prompts in parts.values() for prompt in prompts))
    rows = [
        (prompt.id, part, prompt.group, _text(prompt))
        for part, prompts in parts.items()
        for prompt in prompts
    ]
    frame = pl.DataFrame(rows, schema=_columns(), orient="row")
    before = kept_table(folder)
    frame = pl.concat([frame, before.filter(~before["id"].is_in(frame["id"].implode()))])
    keep_table(folder, frame)


def kept_table(folder: Path) -> pl.DataFrame:
    """All prompts on record, with the columns above; no rows where there is no such file.

    Raises `LedgerError` where it is damaged.
    """
    import polars as pl

    path = folder / PROMPTS
    if not path.is_file():
        return pl.DataFrame(schema=_columns())
    return read_sealed(path, cure="restore it").select(*_columns())


def keep_table(folder: Path, table: pl.DataFrame) -> None:
    """Write down all prompts of a run; raises `LedgerError` where the system refuses."""
    write_sealed(folder / PROMPTS, table)


def _columns() -> dict[str, Any]:
    import polars as pl

    return {"id": pl.String, "part": pl.String, "group": pl.String, "messages": pl.String}


def _text(prompt: Prompt) -> str:
    return json.dumps(prompt.messages)
