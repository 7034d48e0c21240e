"""The prompts of a run as its jobs have them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tailbound.core.prompt import Prompt

if TYPE_CHECKING:
    import polars as pl


def prompts_of(table: pl.DataFrame) -> dict[str, Prompt]:
    """The prompts of `prompts.parquet` by id, in its order; without messages where not known."""
    return {
        name: Prompt(
            id=name,
            messages=tuple((role, text) for role, text in json.loads(messages or "[]")),
            group=group,
        )
        for name, group, messages in table.select("id", "group", "messages").iter_rows()
    }
