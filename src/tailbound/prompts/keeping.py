"""The prompts of a run, kept beside its draws, so that an id never stands for two texts.

DIR/prompts.parquet    id, part, group, messages (JSON)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import ContractMismatchError, UsageError
from tailbound.files import write_durably
from tailbound.prompts.base import Prompt

if TYPE_CHECKING:
    import polars as pl

FILE = "prompts.parquet"


def check_kept(folder: Path, prompts: Iterable[Prompt]) -> None:
    """Raise `ContractMismatchError` where an id stands for another prompt in `folder`.

    Draws are found again by the ids of their prompts: those of one would pass for the other's.
    """
    held = dict(_read(folder).select("id", "messages").rows()) if _path(folder).is_file() else {}
    for prompt in prompts:
        before = held.get(prompt.id)
        if before is not None and before != _text(prompt):
            raise ContractMismatchError(
                f"{folder} holds draws of another prompt with the id {prompt.id!r}: use another "
                "--out, or ids that differ"
            )


def kept_prompts(folder: Path) -> dict[str, Prompt]:
    """The prompts of the run in `folder` by id, as far as they are known; empty without any."""
    if not _path(folder).is_file():
        return {}
    return {
        name: Prompt(id=name, messages=tuple((role, text) for role, text in json.loads(messages)))
        for name, messages in _read(folder).select("id", "messages").rows()
        if messages is not None
    }


def keep_prompts(folder: Path, parts: Mapping[str, Sequence[Prompt]]) -> None:
    """Write down the prompts of each part; those of earlier calls stay. Checks as `check_kept`."""
    import polars as pl

    check_kept(folder, (prompt for prompts in parts.values() for prompt in prompts))
    rows = [
        (prompt.id, part, prompt.group, _text(prompt))
        for part, prompts in parts.items()
        for prompt in prompts
    ]
    schema = {"id": pl.String, "part": pl.String, "group": pl.String, "messages": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if _path(folder).is_file():
        before = _read(folder).select(*schema)
        frame = pl.concat([frame, before.filter(~before["id"].is_in(frame["id"].implode()))])
    write_durably(_path(folder), lambda path: frame.write_parquet(path))


def _path(folder: Path) -> Path:
    return folder / FILE


def _text(prompt: Prompt) -> str:
    return json.dumps(prompt.messages)


def _read(folder: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(_path(folder), glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{_path(folder)} cannot be read ({reason}): restore it") from error
