"""Options declared once: keyword arguments of Python, options of the command line, keys of a file.

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        budget: float = option("Average draws per calibration prompt.", short="-n")
        alpha: float = option("Level.", default=0.1, group="Statistics")

Fields that are declared so are keyword arguments of the functions in `tailbound.api` under their
name, options of the command line (`--budget`), and keys of a configuration file. Fields without a
declaration are not for users.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from tailbound.core.values import typed
from tailbound.errors import UsageError

_KEY = "tailbound.option"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What a user reads about one field; `name` where it is not that of the field."""

    help: str
    short: str | None = None
    group: str | None = None
    name: str | None = None
    unset: bool = False
    """None stands for "not given": what it means is decided where the rest is known."""


def option(
    help: str,
    *,
    default: Any = MISSING,
    short: str | None = None,
    group: str | None = None,
    name: str | None = None,
    unset: bool = False,
) -> Any:
    """A dataclass field that is an option; without a default it must be given."""
    said = Declaration(help=help, short=short, group=group, name=name, unset=unset)
    return dataclasses.field(default=default, metadata={_KEY: said})


@dataclass(frozen=True, kw_only=True)
class Option:
    """One declared option: its name in Python, its type, and its default (MISSING: required)."""

    name: str
    field: str
    type: Any
    default: Any
    help: str
    short: str | None
    group: str | None

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    def value(self, given: Any) -> Any:
        """`given` as a plain value of its type; raises `UsageError` for one of another type."""
        return typed(self.type, given, name=self.flag)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a `Literal`, else ()."""
        return choices(self.type)


@dataclass(frozen=True)
class Only:
    """Some of the options of a dataclass."""

    group: type
    names: tuple[str, ...]


Group = type | Only


def options_of(group: Group) -> list[Option]:
    """The options that a dataclass declares, in order; or some of them."""
    if isinstance(group, Only):
        return [one for one in options_of(group.group) if one.name in group.names]
    hints = typing.get_type_hints(group)
    return [
        _option(field, hints[field.name])
        for field in dataclasses.fields(group)
        if _KEY in field.metadata
    ]


def _option(field: Field[Any], annotation: Any) -> Option:
    said: Declaration = field.metadata[_KEY]
    return Option(
        name=said.name or field.name,
        field=field.name,
        type=annotation | None if said.unset else annotation,
        default=None if said.unset else field.default,
        help=said.help,
        short=said.short,
        group=said.group,
    )


def choices(annotation: Any) -> tuple[str, ...]:
    """The values of a `Literal`, alone or with None.

    >>> choices(Literal["a", "b"] | None)
    ('a', 'b')
    """
    for one in (annotation, *_members(annotation)):
        if get_origin(one) is Literal:
            return tuple(get_args(one))
    return ()


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()


def check_choices(settings: Any) -> None:
    """Raise `UsageError` where a field of type `Literal` holds none of its values."""
    for one in options_of(type(settings)):
        value = getattr(settings, one.field)
        if one.choices and value not in one.choices and value is not None:
            raise UsageError(f"{one.flag} must be one of {', '.join(one.choices)}, not {value!r}")


def check_names(given: Iterable[str], groups: Iterable[Group], *, what: str) -> None:
    """Raise `TypeError`, as Python does, for a keyword that none of the groups declares."""
    known = [one.name for group in groups for one in options_of(group)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}{hint}")


def make(group: type[T], given: Mapping[str, Any]) -> T:
    """The dataclass with those of its options that are `given`, as plain values of their types.

    Raises `TypeError` where one without a default is not given, `UsageError` for a value of another
    type, and what the dataclass raises.
    """
    values: dict[str, Any] = {}
    for one in options_of(group):
        value = given.get(one.name, MISSING)
        if value is MISSING or (value is None and one.default is None):
            continue
        values[one.field] = one.value(value)
    return group(**values)
