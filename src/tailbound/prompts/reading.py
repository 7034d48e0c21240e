"""From the rows of a file to a prompt set: fields, ids, duplicates and empty prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.outside import OutsideError, parse_json
from tailbound.prompts.base import Prompt, content_id
from tailbound.prompts.named import parse_name, read_named
from tailbound.prompts.tables import Row, read_rows

#: Fields that hold the prompt in well-known sets, in the order in which they are looked for.
KNOWN_FIELDS = (
    "prompt",
    "prompt.text",
    "messages",
    "forbidden_prompt",
    "goal",
    "Goal",
    "Behavior",
    "instruction",
    "input",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptSet:
    """The prompts of a file, in its order, and what was left out.

    `field` is the column that was read; `duplicates` and `empty` count the rows that were left
    out because their content stands in an earlier row, or because they have none; `notices` say
    so in words. `p_hat` is the column of that name, shape (len(prompts),), NaN where a row has
    none, or None where the file has no such column.
    """

    prompts: tuple[Prompt, ...]
    field: str
    source: str
    duplicates: int = 0
    empty: int = 0
    notices: tuple[str, ...] = ()
    p_hat: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    def __getitem__(self, position: int) -> Prompt:
        return self.prompts[position]

    def p_hat_by_id(self) -> dict[str, float]:
        """The user's predictions by prompt id; empty where the file has none."""
        if self.p_hat is None:
            return {}
        return {prompt.id: float(p) for prompt, p in zip(self.prompts, self.p_hat, strict=True)}


def read_prompts(
    path: str | PathLike[str], *, field: str | None = None, limit: int | None = None
) -> PromptSet:
    """Read a JSONL, CSV or Parquet file of prompts, or a set by its name.

    A name is `hf-dataset:ORG/NAME[@REVISION][#[CONFIG/]SPLIT]` (`tailbound.prompts.named`), or a
    short one of `tailbound.prompts.recipes`, such as `strongreject`.

    The prompt is the column `field` (dots go into nested records: `prompt.text`), or the first
    of `KNOWN_FIELDS` that the file has. It is a text, or chat messages
    `[{"role": ..., "content": ...}]` (in CSV: the same as JSON). Optional columns: `id` (else the
    hash of the content), `group` (wordings of one query share it), `p_hat` (predictions of the
    user's own). `limit` keeps the first so many usable prompts.

    Rows whose content repeats an earlier row, and rows with no content, are left out and counted.

    Raises `UsageError`, with file and line, where the file is missing or unreadable, has no known
    field, has one id for two different prompts, or has no prompts.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}; leave it out to read all")
    rows, source, proposed, notices = _rows_of(fspath(path))
    if not rows:
        raise UsageError(f"{source} has no prompts: it is empty")
    name = _find_field(rows, field or proposed, source)

    prompts: list[Prompt] = []
    p_hat: list[float] = []
    place_of_id: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
    id_of_content: dict[tuple[tuple[str, str], ...], str] = {}
    repeats: list[str] = []
    empties: list[str] = []
    for row in rows:
        if limit is not None and len(prompts) == limit:
            break
        messages = _messages(row, name)
        if not messages or not messages[-1][1].strip():
            empties.append(row.place)
            continue
        given = _label(row, "id")
        mine = content_id(messages) if given is None else given
        if mine in place_of_id and place_of_id[mine][1] != messages:
            raise UsageError(
                f"{row.place} has the id {mine!r} of a different prompt "
                f"({place_of_id[mine][0]}): ids must be unique"
            )
        if messages in id_of_content:
            repeats.append(f"{row.place} repeats {id_of_content[messages]!r}")
            continue
        place_of_id[mine] = (row.place, messages)
        id_of_content[messages] = mine
        prompts.append(Prompt(id=mine, messages=messages, group=_label(row, "group")))
        p_hat.append(_number(row, "p_hat"))
    if not prompts:
        raise UsageError(f"{source} has no prompts: all {len(rows)} rows are empty in {name!r}")
    return PromptSet(
        prompts=tuple(prompts),
        field=name,
        source=source,
        duplicates=len(repeats),
        empty=len(empties),
        notices=(*notices, *_notices(repeats, empties)),
        p_hat=np.array(p_hat) if any("p_hat" in row.values for row in rows) else None,
    )


def _rows_of(text: str) -> tuple[list[Row], str, str | None, tuple[str, ...]]:
    """(rows, source, field of a recipe, notices) of a file or of a set by name."""
    name = parse_name(text)
    if name is not None:
        found = read_named(name)
        return found.rows, found.source, name.field, found.notices
    return read_rows(Path(text)), str(Path(text)), None, ()


_ABSENT = object()


def _value(values: dict[str, Any], name: str) -> Any:
    """The value of a column, dots going into nested records; `_ABSENT` where there is none."""
    if name in values:
        return values[name]
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _find_field(rows: Sequence[Row], field: str | None, source: str) -> str:
    if field is not None:
        if all(_value(row.values, field) is _ABSENT for row in rows):
            raise UsageError(f"{source} has no field {field!r}: {_columns(rows)}")
        return field
    for name in KNOWN_FIELDS:
        if any(isinstance(_value(row.values, name), (str, list)) for row in rows):
            return name
    raise UsageError(
        f"{source} has no field that is known to hold prompts: {_columns(rows)}; "
        "name one with --field"
    )


def _columns(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows[:1000] for name in row.values))
    if not names:
        return "it has no columns"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"it has {', '.join(names[:20])}{more}"


def _messages(row: Row, name: str) -> tuple[tuple[str, str], ...]:
    """The chat messages of a row; empty where the field holds nothing."""
    value = _value(row.values, name)
    if value is _ABSENT:
        raise UsageError(f"{row.place} has no field {name!r}: it has {', '.join(row.values)}")
    if value is None:
        return ()
    if isinstance(value, str):
        if name.split(".")[-1] != "messages":
            return (("user", _whole(value, row, name)),)
        if not value.strip():
            return ()
        try:
            value = parse_json(value)
        except OutsideError as error:
            raise UsageError(f"{row.place}: {name!r} is not JSON ({error})") from error
    if not isinstance(value, list):
        raise UsageError(
            f"{row.place}: {name!r} is neither text nor a list of messages: {value!r:.60}"
        )
    messages = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise UsageError(
                f"{row.place}: {name!r} holds {message!r:.80}; a message is "
                '{"role": "user", "content": "text"}'
            )
        messages.append((role, _whole(content, row, name)))
    return tuple(messages)


def _label(row: Row, name: str) -> str | None:
    """An id or a group as text; None where the row has none."""
    value = row.values.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise UsageError(f"{row.place}: {name} must be text or a whole number, not {value!r:.60}")
    return _whole(str(value), row, name)


def _whole(text: str, row: Row, name: str) -> str:
    """The text, unless it holds half a character, which no model and no file can take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{row.place}: {name!r} has half a character ({text[error.start]!r} alone): "
            "save it as UTF-8"
        ) from error
    return text


def _number(row: Row, name: str) -> float:
    value = row.values.get(name)
    if value is None or value == "":
        return float("nan")
    try:
        number = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or not (0 < number <= 1 or number != number):
        # a 0 would claim that no number of draws is too many, which nothing can calibrate
        cure = ": give the smallest probability that you would stand by" if number == 0 else ""
        raise UsageError(f"{row.place}: {name} must lie in (0, 1], not {value!r:.60}{cure}")
    return number


def _notices(repeats: Sequence[str], empties: Sequence[str]) -> tuple[str, ...]:
    notices = []
    if repeats:
        notices.append(f"{_rows(len(repeats))} left out as duplicates (first: {repeats[0]})")
    if empties:
        notices.append(f"{_rows(len(empties))} left out as empty (first: {empties[0]})")
    return tuple(notices)


def _rows(count: int) -> str:
    return "1 row was" if count == 1 else f"{count} rows were"
