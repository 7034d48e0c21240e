"""Values of options by their declared types: what Python callers give, checked before use.

Numbers of NumPy become plain ones, whole floats whole numbers, lists and arrays tuples, and paths
`Path`s, so that every value can be written to `run.yaml`. Anything else that is not of the declared
type is one line that names the option.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from tailbound.core.outside import is_clean, shown
from tailbound.errors import UsageError


class _WrongTypeError(ValueError):
    pass


def typed(kind: Any, value: Any, *, name: str) -> Any:
    """`value` as a plain value of type `kind`; `name` is what the user calls it.

    `kind` is bool, int, float, str, `Path`, a `Literal` of texts, a tuple of these, or `X | None`.
    Raises `UsageError` where `value` is of another type, None where something is due, or NaN.

    >>> typed(int, 500.0, name="--draws")
    500
    >>> typed(tuple[float, ...], [1, 0.6], name="--intensities")
    (1.0, 0.6)
    >>> typed(tuple[float, ...], 0.1, name="--alpha")
    (0.1,)
    >>> typed(int, "500", name="--draws")
    Traceback (most recent call last):
    ...
    tailbound.errors.UsageError: --draws must be a whole number, not '500'
    """
    try:
        return _typed(kind, value)
    except _WrongTypeError:
        raise UsageError(f"{name} must be {_words(kind)}, not {shown(value)}") from None


def place(given: Any, *, name: str) -> Path:
    """A path that was given, with `~` for the home folder; raises `UsageError` for anything else.

    >>> place("runs/when", name="out").as_posix()
    'runs/when'
    """
    path: Path = typed(Path, given, name=name)
    if not fspath(given):
        raise UsageError(f"{name} must be a path, not an empty text")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UsageError(f"{name} {path} cannot be resolved ({error}): write it in full") from error


def _typed(kind: Any, value: Any) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and NoneType in inner:
            return None
        (only,) = (one for one in inner if one is not NoneType)
        return _typed(only, value)
    if origin is tuple:
        alone = isinstance(value, str) if inner[0] is str else not isinstance(value, Iterable)
        if alone and inner[1:] == (...,):
            value = (value,)
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise _WrongTypeError
        items = tuple(value)
        kinds = [inner[0]] * len(items) if inner[1:] == (...,) else list(inner)
        if len(items) != len(kinds):
            raise _WrongTypeError
        return tuple(_typed(one, item) for one, item in zip(kinds, items, strict=True))
    if origin is Literal:
        return _text(value)  # which of the texts is for `check_choices` to say
    return _PLAIN[kind](value)


def _switch(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):  # NumPy's too
        return bool(value)
    raise _WrongTypeError


def _number(value: Any) -> float:
    if isinstance(value, (bool, str, bytes)) or type(value).__name__ in ("bool_", "bool"):
        raise _WrongTypeError
    if not hasattr(type(value), "__float__") and not hasattr(type(value), "__index__"):
        raise _WrongTypeError
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # an array of several, 10**400
        raise _WrongTypeError from None
    if math.isnan(number):
        raise _WrongTypeError
    return number


def _whole(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise _WrongTypeError
    return int(value) if hasattr(type(value), "__index__") else int(number)


def _text(value: Any) -> str:
    if not is_clean(value):  # half a character: neither a file nor a model takes it
        raise _WrongTypeError
    return str(value)


def _path(value: Any) -> Path:
    if not isinstance(value, (str, PathLike)) or not is_clean(fspath(value)):
        raise _WrongTypeError
    if "\0" in fspath(value):
        raise _WrongTypeError
    return Path(value)


_PLAIN: dict[Any, Callable[[Any], Any]] = {
    bool: _switch,
    int: _whole,
    float: _number,
    str: _text,
    Path: _path,
}

_ONE = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
}


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        only = [one for one in inner if one is not NoneType]
        return f"{_words(only[0])}{' or None' if NoneType in inner else ''}"
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        many = "texts" if inner[0] is str else "numbers"
        return f"a list of {many if inner[1:] == (...,) else f'{len(inner)} {many}'}"
    return _ONE[kind]
