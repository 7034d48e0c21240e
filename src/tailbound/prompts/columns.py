"""Which columns make up the prompt: one, several that belong together, or a template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailbound.errors import UsageError
from tailbound.prompts.tables import Row, is_index, kind

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

#: Columns that complete a prompt in well-known sets (lower case, without `_`).
COMPLETING = frozenset(
    {
        *("context", "contextstring", "passage", "article", "document", "background", "history"),
        *("choices", "options", "system", "systemprompt", "systemmessage"),
    }
)

ABSENT = object()

_PLACE = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Two columns that make one prompt, and how the authors of the set put them together.

    Where `other` is empty, the prompt is `main` alone. `manner` says in words how they are joined.
    """

    main: str
    other: str
    separator: str
    other_first: bool
    manner: str

    def text(self, main: str, other: str) -> str:
        """The prompt."""
        pair = (other, main) if self.other_first else (main, other)
        return self.separator.join(pair) if other.strip() else main


JOINS = (
    Join(
        main="Behavior",
        other="ContextString",
        separator="\n\n---\n\n",
        other_first=True,
        manner="with the context first, as the authors of HarmBench do",
    ),
    Join(
        main="instruction",
        other="input",
        separator="\n\n",
        other_first=False,
        manner="with a blank line between them",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a prompt is read from.

    `name` is the column or the template. `join` puts a second column to it; with `template` the
    prompt is the name with the columns in braces filled in. Where one of them is empty, what
    stands between it and the next is left out, unless that has letters or digits in it.
    """

    name: str
    join: Join | None = None
    template: bool = False

    @property
    def used(self) -> tuple[str, ...]:
        """The names of all columns that the prompt is made of."""
        if self.template:
            return tuple(dict.fromkeys(_PLACE.findall(self.name)))
        return (self.name, self.join.other) if self.join is not None else (self.name,)

    def value(self, row: Row) -> Any:
        """The text or the messages of the row, as they stand there; raises for a lacking column."""
        if self.template:
            return self._filled(row)
        value = _present(row, self.name)
        if self.join is None or not isinstance(value, str):
            return value
        return self.join.text(value, self._text(row, self.join.other, optional=True))

    def _filled(self, row: Row) -> str | None:
        first, *rest = _PLACE.split(self.name)  # text, column, text, column, ..., text
        *between, last = rest[1::2]
        values = [self._text(row, name) for name in rest[::2]]
        if not any(value.strip() for value in values):
            return None
        text, separator, begun = first, "", False
        for value, following in zip(values, [*between, ""], strict=True):
            if value.strip():
                text += (separator if begun else "") + value
                separator, begun = "", True
            if any(map(str.isalnum, following)):
                text, separator = text + following, ""
            else:
                separator = separator or following
        return text + last

    def _text(self, row: Row, name: str, *, optional: bool = False) -> str:
        value = look_up(row.values, name) if optional else _present(row, name)
        if value is None or value is ABSENT:
            return ""
        if isinstance(value, (list, dict)):
            raise UsageError(
                f"{row.place}: {name!r} is {kind(value)}: join it into one text before it can "
                "be in a prompt"
            )
        return str(value)


def look_up(values: dict[str, Any], name: str) -> Any:
    """The value of a column, dots going into nested records; `ABSENT` where there is none."""
    if name in values:
        return values[name]
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return value


def _present(row: Row, name: str) -> Any:
    value = look_up(row.values, name)
    if value is ABSENT:
        raise UsageError(f"{row.place} has no field {name!r}: it has {', '.join(row.values)}")
    return value


def find_columns(
    rows: Sequence[Row], field: str | None, source: str
) -> tuple[Columns, tuple[str, ...]]:
    """What the prompts are read from, and notices about it.

    `field` is a column or a template; without one, it is the first of `KNOWN_FIELDS` that holds
    text or messages, joined with the column that belongs to it (`JOINS`). Raises `UsageError`
    where no column is known to hold prompts, or another one beside it seems to complete them.
    """
    if field is None:
        return _known(rows, source)
    if _PLACE.search(field) and all(look_up(row.values, field) is ABSENT for row in rows):
        template = Columns(name=field.replace("\\n", "\n").replace("\\t", "\t"), template=True)
        for name in template.used:
            _check_field(rows, name, source)
        return template, ()
    _check_field(rows, field, source)
    beside = [name for name in _completing(rows, field) if name != field]
    if not beside:
        return Columns(name=field), ()
    return Columns(name=field), (
        f"the prompts are {field!r} alone, without {_names(beside)}: {_template(beside[0], field)} "
        "joins them",
    )


def _check_field(rows: Sequence[Row], name: str, source: str) -> None:
    if all(look_up(row.values, name) is ABSENT for row in rows):
        raise UsageError(f"{source} has no field {name!r}: {list_columns(rows)}")


def _known(rows: Sequence[Row], source: str) -> tuple[Columns, tuple[str, ...]]:
    name = next(
        (
            name
            for name in KNOWN_FIELDS
            if any(isinstance(look_up(row.values, name), (str, list)) for row in rows)
        ),
        None,
    )
    if name is None:
        raise _unknown(rows, source)
    for join in JOINS:
        if join.main == name and _filled(rows, join.other):
            beside = [one for one in _completing(rows, name) if one != join.other]
            if beside:
                raise _open_choice(source, name, beside)
            count = sum(_holds(row, join.other) for row in rows)
            line = (
                f"the prompts of {count} of {len(rows)} rows are {name!r} and {join.other!r} "
                f"joined, "
                f"{join.manner}"
            )
            return Columns(name=name, join=join), (line,)
    beside = _completing(rows, name)
    if beside and name != "messages":
        raise _open_choice(source, name, beside)
    note = f"the prompts are {name!r} alone, without {_names(beside)}"
    return Columns(name=name), (note,) if beside else ()


def _unknown(rows: Sequence[Row], source: str) -> UsageError:
    for name in KNOWN_FIELDS:
        held = [row for row in rows if look_up(row.values, name) is not ABSENT]
        row = next((row for row in held if look_up(row.values, name) is not None), None)
        if row is not None:
            value = look_up(row.values, name)
            cure = "put it in quotes, or name another column with --field"
            if isinstance(value, dict):
                inner = next(iter(value), "KEY")
                cure = f"name the text in it, such as --field {name}.{inner}"
            return UsageError(
                f"{row.place}: {name!r} is {kind(value)} ({value!r:.40}), neither text nor a list "
                f"of messages: {cure}"
            )
        if len(held) == len(rows):
            return UsageError(f"{source} has no prompts: {name!r} is null in every row")
    return UsageError(
        f"{source} has no field that is known to hold prompts: {list_columns(rows)}; "
        "name one with --field"
    )


def _open_choice(source: str, name: str, beside: Sequence[str]) -> UsageError:
    return UsageError(
        f"{source} has {_names(beside)} beside {name!r}, which may belong to the prompts: "
        f"--field {name} reads {name!r} alone, {_template(beside[0], name)} joins them"
    )


def _template(other: str, name: str) -> str:
    return f"--field '{{{other}}}\\n\\n{{{name}}}'"


def _names(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


def _completing(rows: Sequence[Row], name: str) -> list[str]:
    """The columns beside `name` that have a name as if they completed it, and are not empty."""
    names = dict.fromkeys(one for row in rows for one in row.values)
    return [
        one
        for one in names
        if one != name
        and (_plain(one) in COMPLETING or (name == "instruction" and one == "input"))
        and _filled(rows, one)
    ]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace(" ", "").replace("-", "")


def _filled(rows: Sequence[Row], name: str) -> bool:
    return any(_holds(row, name) for row in rows)


def _holds(row: Row, name: str) -> bool:
    value = look_up(row.values, name)
    return (
        bool(value.strip()) if isinstance(value, str) else isinstance(value, list) and bool(value)
    )


def list_columns(rows: Sequence[Row]) -> str:
    """What columns there are, in words; row numbers without a name are left out."""
    found = dict.fromkeys(name for row in rows[:1000] for name in row.values)
    names = [name for name in found if not is_index(name)]
    if not names:
        return "it has no columns"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"it has {', '.join(names[:20])}{more}"
