"""From the rows of a file to a prompt set: ids, groups, duplicates and empty prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt, content_id
from tailbound.errors import UsageError
from tailbound.prompts.chat import Messages, NotMessagesError, parse_messages
from tailbound.prompts.columns import Columns, find_columns
from tailbound.prompts.datasets import RECIPES, check_is_file, only_population, parse_recipe_file
from tailbound.prompts.hub import parse_name, read_named
from tailbound.prompts.opening import STANDARD_INPUT
from tailbound.prompts.tables import Row, is_index, parse_value, read_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptSet:
    """The prompts of a file, in its order, and what was left out.

    `field` is the column that was read (or the template). Rows whose prompt is that of an earlier
    row are left out: `duplicates` counts those that are the same in every column of text, and
    `repeated` those that differ in another one. `empty` counts rows without a prompt. `notices`
    say so in words. `p_hat` is the column of that name, shape (len(prompts),), NaN where a row has
    none, or None where the file has no such column. `records` are the rows that were kept, with all
    their columns; none where the prompts came without.
    """

    prompts: tuple[Prompt, ...]
    field: str
    source: str
    duplicates: int = 0
    repeated: int = 0
    empty: int = 0
    notices: tuple[str, ...] = ()
    p_hat: NDArray[np.float64] | None = None
    records: tuple[Mapping[str, Any], ...] = ()

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

    def labels(self, column: str) -> list[str | None]:
        """What each prompt has in `column`, as text; None where it has nothing there.

        Raises `UsageError` where no prompt has the column, or a value is neither text nor a whole
        number.
        """
        if not any(column in record for record in self.records):
            known = sorted({name for record in self.records[:100] for name in record})
            there = f"it has {', '.join(known)}" if known else "its prompts came without columns"
            raise UsageError(f"{self.source} has no column {column!r}: {there}")
        return [
            _label(Row(f"{self.source}: prompt {prompt.id!r}", dict(record)), column)
            for prompt, record in zip(self.prompts, self.records, strict=True)
        ]


def read_prompts(
    path: str | PathLike[str], *, field: str | None = None, limit: int | None = None
) -> PromptSet:
    """Read a file of prompts (`tailbound.prompts.tables`), or a set by its name.

    A name is `hf-dataset:ORG/NAME[@REVISION][#[CONFIG/]SPLIT]` (`tailbound.prompts.hub`), or a
    short one of `tailbound.prompts.datasets`, such as `strongreject`. `strongreject:FILE` is the
    same set from the file that its authors publish.

    The prompt is the column `field` (dots go into nested records: `prompt.text`), a template with
    columns in braces (`{context}\\n\\n{question}`), or the first of `KNOWN_FIELDS` that the file
    has, with the column that completes it (`tailbound.prompts.columns`). It is a text, or chat
    messages `[{"role": ..., "content": ...}]` (in CSV: the same as JSON). Optional columns: `id`
    (else the hash of the content), `group` (wordings of one query share it), `p_hat` (predictions
    of the user's own). `limit` keeps the first so many usable prompts.

    Rows whose prompt repeats an earlier row's, and rows without one, are left out and counted.

    Raises `UsageError`, with file and line, where the file is missing or unreadable, has no known
    field, has one that may belong to the prompts and is not known to, has one id for two
    different prompts, or has no prompts.
    """
    check_limit(limit)
    rows, source, proposed, notices = _rows_of(fspath(path))
    return prompt_set_of(rows, source, field=field or proposed, limit=limit, notices=notices)


def check_limit(limit: int | None) -> None:
    """Raise `UsageError` for a limit that leaves no prompt."""
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}; leave it out to read all")


def prompt_set_of(
    rows: Sequence[Row],
    source: str,
    *,
    field: str | None = None,
    limit: int | None = None,
    notices: tuple[str, ...] = (),
) -> PromptSet:
    """The prompt set of rows that were read from `source`; raises as `read_prompts` does."""
    if not rows:
        raise UsageError(f"{source} has no prompts: it is empty")
    columns, about = find_columns(rows, field, source)
    left_out = _LeftOut(columns)
    prompts: list[Prompt] = []
    p_hat: list[float] = []
    records: list[Mapping[str, Any]] = []
    place_of_id: dict[str, tuple[str, Messages]] = {}
    held: dict[Messages, tuple[str, Row]] = {}
    for row in rows:
        if limit is not None and len(prompts) == limit:
            break
        messages = _messages(row, columns)
        if not messages or not messages[-1][1].strip():
            left_out.empty.append(row.place)
            continue
        given = _label(row, "id")
        mine = content_id(messages) if given is None else given
        if mine in place_of_id and place_of_id[mine][1] != messages:
            raise UsageError(
                f"{row.place} has the id {mine!r} of a different prompt "
                f"({place_of_id[mine][0]}): ids must be unique"
            )
        if messages in held:
            left_out.add_repeat(row, *held[messages])
            continue
        place_of_id[mine] = (row.place, messages)
        held[messages] = (mine, row)
        prompts.append(Prompt(id=mine, messages=messages, group=_label(row, "group")))
        p_hat.append(_number(row, "p_hat"))
        records.append(row.values)
    if not prompts:
        raise UsageError(
            f"{source} has no prompts: all {len(rows)} rows are empty in {columns.name!r}"
        )
    return PromptSet(
        prompts=tuple(prompts),
        field=columns.name,
        source=source,
        duplicates=len(left_out.duplicates),
        repeated=len(left_out.repeated),
        empty=len(left_out.empty),
        notices=(*notices, *about, *left_out.notices()),
        p_hat=np.array(p_hat) if any("p_hat" in row.values for row in rows) else None,
        records=tuple(records),
    )


def _rows_of(text: str) -> tuple[list[Row], str, str | None, tuple[str, ...]]:
    """(rows, source, field of a recipe, notices) of a file or of a set by name."""
    name = parse_name(text)
    if name is not None:
        found = read_named(name)
        return found.rows, found.source, name.field, found.notices
    if Path(text) == STANDARD_INPUT:
        return read_rows(Path(text)), "standard input", None, ()
    by_hand = parse_recipe_file(text)
    if by_hand is None:
        check_is_file(text)
        return read_rows(Path(text)), str(Path(text)), None, ()
    recipe, path = by_hand
    rows, notices = only_population(RECIPES[recipe], read_rows(path), f"{path}")
    return rows, f"{recipe}:{path}", None, notices


class _LeftOut:
    """The rows that become no prompt of their own, and why."""

    def __init__(self, columns: Columns) -> None:
        self.empty: list[str] = []
        self.duplicates: list[str] = []
        self.repeated: list[str] = []
        self._main = columns.used[-1] if columns.template else columns.name
        self._differing: dict[str, None] = {}
        self._passed_over = {*columns.used, "id", "group", "p_hat"}

    def add_repeat(self, row: Row, name: str, first: Row) -> None:
        differing = [
            column
            for column in {**first.values, **row.values}
            if column not in self._passed_over
            and not is_index(column)
            and _is_text(first.values.get(column), row.values.get(column))
            and first.values.get(column) != row.values.get(column)
        ]
        self._differing.update(dict.fromkeys(differing))
        kept = self.repeated if differing else self.duplicates
        kept.append(f"{row.place} repeats {name!r}")

    def notices(self) -> Iterator[str]:
        if self.duplicates:
            yield (
                f"{_rows(len(self.duplicates))} left out as duplicates "
                f"(first: {self.duplicates[0]})"
            )
        if self.repeated:
            names = list(self._differing)
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            yield (
                f"{_rows(len(self.repeated))} left out because the model would be given the same "
                f"text again (first: {self.repeated[0]}), although other columns differ "
                f"({', '.join(names[:5])}{more}): if one of them belongs to the prompt, join it by "
                f"--field '{{{names[0]}}}\\n\\n{{{self._main}}}'"
            )
        if self.empty:
            yield f"{_rows(len(self.empty))} left out as empty (first: {self.empty[0]})"


def _is_text(*values: Any) -> bool:
    return any(isinstance(value, (str, list, dict)) and value for value in values)


def _messages(row: Row, columns: Columns) -> Messages:
    """The chat messages of a row; empty where the field holds nothing."""
    value, name = columns.value(row), columns.name
    if value is None:
        return ()
    if isinstance(value, str):
        if columns.template or name.split(".")[-1] != "messages":
            return (("user", _whole(value, row, name)),)
        if not value.strip():
            return ()
        value = parse_value(value, f"{row.place}: {name!r}")
    if not isinstance(value, list):
        raise UsageError(
            f"{row.place}: {name!r} is neither text nor a list of messages: {value!r:.60}"
        )
    try:
        messages = parse_messages(value)
    except NotMessagesError as error:
        raise UsageError(f"{row.place}: {name!r} holds {error}") from error
    return tuple((_whole(role, row, name), _whole(text, row, name)) for role, text in messages)


def _label(row: Row, name: str) -> str | None:
    """An id, a group or another label as text; None where the row has none."""
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


def _rows(count: int) -> str:
    return "1 row was" if count == 1 else f"{count} rows were"
