"""Options that several commands share: which prompts are read, and what goes on record."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """Where the prompts stand in what was given, and how many of them are used."""

    field: str | None = option("Column that holds the prompts.", default=None)
    limit: int | None = option("Use only the first N prompts.", default=None)


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """What a run folder keeps of each draw."""

    no_text: bool = option(
        "Store scores but not the text of responses.", default=False, group="Run"
    )
