"""Prompts as Python has them: a path, texts, records, `Prompt`s or a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts.reading import PromptSet, check_limit, prompt_set_of, read_prompts
from tailbound.prompts.tables import Row

PromptSource = str | PathLike[str] | PromptSet | Iterable[str | Mapping[str, Any] | Prompt]
"""A path or the name of a set; texts, records with a `prompt`, or `Prompt`s; a frame of records."""

SOURCE = "prompts"


def prompt_set(
    given: PromptSource, *, field: str | None = None, limit: int | None = None
) -> PromptSet:
    """The prompt set of whatever `given` is.

    A string or path is read as `read_prompts` reads it. Other strings stand in a list. Records, and
    the rows of a Polars or pandas frame, have the columns of a prompt file (`prompt`, `id`,
    `group`, `p_hat`), or `field`. `limit` keeps the first so many usable prompts.

    Raises `UsageError` for what is none of these, and as `read_prompts` does.

    >>> [prompt.text for prompt in prompt_set(["How are you?", "Who are you?"])]
    ['How are you?', 'Who are you?']
    >>> prompt_set([{"id": "a", "prompt": "How are you?"}])[0].id
    'a'
    """
    if isinstance(given, (str, PathLike)):
        return read_prompts(given, field=field, limit=limit)
    check_limit(limit)
    if isinstance(given, PromptSet):
        return given if limit is None else _first(given, limit)
    rows = [_row(one, number) for number, one in enumerate(_records(given), start=1)]
    return prompt_set_of(rows, SOURCE, field=field, limit=limit)


def _first(held: PromptSet, limit: int) -> PromptSet:
    from dataclasses import replace

    p_hat = None if held.p_hat is None else held.p_hat[:limit]
    return replace(held, prompts=held.prompts[:limit], p_hat=p_hat)


def _records(given: Any) -> Sequence[Any]:
    """The rows of a frame, or the members of an iterable."""
    if hasattr(given, "to_dicts"):  # Polars
        return list(given.to_dicts())
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # pandas
        return list(given.to_dict("records"))
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise UsageError(
            f"prompts must be a path, a list of texts or records, or a frame, not {given!r:.60}"
        )
    return list(given)


def _row(one: Any, number: int) -> Row:
    place = f"{SOURCE}[{number - 1}]"
    if isinstance(one, str):
        return Row(place, {"messages": [{"role": "user", "content": one}]})
    if isinstance(one, Prompt):
        messages = [{"role": role, "content": text} for role, text in one.messages]
        return Row(place, {"id": one.id, "group": one.group, "messages": messages})
    if not isinstance(one, Mapping):
        raise UsageError(f"{place} must be a text, a record or a Prompt, not {one!r:.60}")
    return Row(place, {str(name): value for name, value in one.items()})
