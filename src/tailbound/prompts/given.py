"""Prompts as Python has them: a path, texts, records, `Prompt`s or a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from os import PathLike
from pathlib import Path
from typing import Any

from tailbound.core.outside import shown
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts.columns import KNOWN_FIELDS
from tailbound.prompts.reading import PromptSet, check_limit, prompt_set_of, read_prompts
from tailbound.prompts.tables import Row

PromptSource = str | PathLike[str] | PromptSet | Iterable[str | Mapping[str, Any] | Prompt]
"""A path or the name of a set; texts, records with a `prompt`, or `Prompt`s; a frame of records."""

SOURCE = "prompts"
_LONGEST = 1000
"""Characters of a path at most."""


def prompt_set(
    given: PromptSource, *, field: str | None = None, limit: int | None = None
) -> PromptSet:
    """The prompt set of whatever `given` is.

    A string or path is read as `read_prompts` reads it; prompts themselves are given in a list.
    Records, and the rows of a Polars or pandas frame, have the columns of a prompt file (`prompt`,
    `id`, `group`, `p_hat`), or `field`. `limit` keeps only the first N usable prompts.

    Raises `UsageError` for what is none of these, and as `read_prompts` does.

    >>> [prompt.text for prompt in prompt_set(["How are you?", "Who are you?"])]
    ['How are you?', 'Who are you?']
    >>> prompt_set([{"id": "a", "prompt": "How are you?"}])[0].id
    'a'
    """
    if isinstance(given, str):
        _check_no_prompt(given)
    if isinstance(given, (str, PathLike)):
        return read_prompts(given, field=field, limit=limit)
    check_limit(limit)
    if isinstance(given, PromptSet):
        return given if limit is None else _first(given, limit)
    records = _records(given)
    name = _text_column(records, field)
    rows = [_row(one, f"{SOURCE}[{number}]", name) for number, one in enumerate(records)]
    return prompt_set_of(rows, SOURCE, field=field, limit=limit)


def _first(held: PromptSet, limit: int) -> PromptSet:
    from dataclasses import replace

    p_hat = None if held.p_hat is None else held.p_hat[:limit]
    records = held.records[:limit]
    return replace(held, prompts=held.prompts[:limit], p_hat=p_hat, records=records)


def _check_no_prompt(text: str) -> None:
    """Raise `UsageError` for what is a prompt rather than a path or the name of a set."""
    words = " " in text and "/" not in text and " " in (Path(text).suffix or " ")
    if "\n" in text or len(text) > _LONGEST or (words and not Path(text).exists()):
        raise UsageError(
            f"prompts {shown(text)} is no file and no known set: put prompts in a list"
        )


def _records(given: Any) -> Sequence[Any]:
    """The rows of a frame, or the members of an iterable."""
    if hasattr(given, "collect_schema") and hasattr(given, "collect"):  # a lazy frame of Polars
        given = given.collect()
    if hasattr(given, "to_dicts"):  # Polars
        return list(given.to_dicts())
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # pandas
        return list(given.to_dict("records"))
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise UsageError(
            f"prompts must be a path, a list of texts or records, or a frame, not {shown(given)}"
        )
    # a set has another order in every process
    return sorted(given, key=repr) if isinstance(given, AbstractSet) else list(given)


def _text_column(records: Sequence[Any], field: str | None) -> str:
    """The column in which texts and `Prompt`s stand among records: that of the records' prompts."""
    first = next((one for one in records if isinstance(one, Mapping)), None)
    if first is None:
        return "messages"
    return field or next((name for name in KNOWN_FIELDS if name in first), "messages")


def _row(one: Any, place: str, name: str) -> Row:
    if isinstance(one, str):
        return Row(place, {name: [{"role": "user", "content": str(one)}]})
    if isinstance(one, Prompt):
        messages = [{"role": role, "content": text} for role, text in one.messages]
        return Row(place, {"id": one.id, "group": one.group, name: messages})
    if not isinstance(one, Mapping):
        raise UsageError(f"{place} must be a text, a record or a Prompt, not {shown(one)}")
    return Row(place, {str(name): _plain(str(name), value) for name, value in one.items()})


def _plain(name: str, value: Any) -> Any:
    """A value of a record as a file would have it: nothing of NumPy, None where pandas has NaN."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return str(value)
    if type(value).__name__ in ("NAType", "NaTType") or (
        isinstance(value, float) and value != value
    ):
        return None
    if isinstance(value, float) and name in ("id", "group") and value.is_integer():
        return int(value)  # a column of pandas in which numbers are missing
    return value
