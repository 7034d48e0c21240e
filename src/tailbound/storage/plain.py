"""Between values and what JSON can hold: numbers that are not finite, and dataclasses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def finite(value: Any) -> Any:
    """`value` with None for every number that JSON does not have; tuples become lists.

    >>> finite({"z": float("inf"), "interval": (0.0, float("nan"))})
    {'z': None, 'interval': [0.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return value


def from_plain(kind: Any, value: Any) -> Any:
    """The value of type `kind` that was written as `value`, which JSON gave.

    `kind` is a type of plain values, a dataclass of such, or `tuple`, `dict`, `Literal` or
    `X | None` of them. None stands for NaN where a float is due. Raises `TypeError` where `value`
    is of another type, and `KeyError` where a field is missing or not known.

    >>> from_plain(tuple[int, ...] | None, [1, 2])
    (1, 2)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        (only,) = (one for one in inner if one is not NoneType)
        return from_plain(only, value)
    if origin is Literal:
        if value not in inner:
            raise TypeError(f"{value!r:.60} is not one of {', '.join(map(str, inner))}")
        return value
    if origin is tuple:
        items = _expect(value, list)
        kinds = [inner[0]] * len(items) if inner[1:] == (...,) else inner
        return tuple(from_plain(one, item) for one, item in zip(kinds, items, strict=True))
    if origin is dict:
        return {str(key): from_plain(inner[1], item) for key, item in _expect(value, dict).items()}
    if is_dataclass(kind):
        return _dataclass(kind, _expect(value, dict))
    if kind is float:
        return math.nan if value is None else _number(value)
    return _expect(value, kind)


def _number(value: Any) -> float:
    try:
        return float(_expect(value, int, float))
    except OverflowError:
        raise TypeError("a whole number of more than 308 digits is not a number") from None


def _dataclass(kind: Any, values: dict[str, Any]) -> Any:
    hints = _field_types(kind)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise KeyError(unknown[0])
    return kind(**{name: from_plain(one, values[name]) for name, one in hints.items()})


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    """The type of each field; looking it up takes longer than reading a row."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _expect(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{value!r:.60} is not of type {' or '.join(k.__name__ for k in kinds)}")
    return value
