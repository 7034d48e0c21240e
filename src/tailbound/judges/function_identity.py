"""What a function's verdicts depend on, as a digest: two different functions have two.

Of a function that is its source, its defaults, the values that it closes over, and the globals that
it names, as far as they are plain values or belong to its own module. A lambda, and a function
without source (`python -c`), counts by its bytecode, because one line may hold several lambdas.
Methods count with their object, partial functions with their arguments. Of objects that are
neither plain nor of the function's module the type counts alone.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

_DEEPEST = 8
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), range, PurePath)


def digest_of(function: object) -> str:
    """12 hex digits of the SHA-256 of everything that is known about `function`."""
    plain = inspect.unwrap(function) if callable(function) else function
    while isinstance(plain, functools.partial):
        plain = plain.func
    home = getattr(plain, "__module__", None)
    hashed = hashlib.sha256()
    for part in _Walk(home).parts(function):
        hashed.update(part.encode("utf-8", "surrogatepass"))
        hashed.update(b"\0")
    return hashed.hexdigest()[:12]


class _Walk:
    """One walk through a function and what it rests on; nothing is entered twice."""

    def __init__(self, home: str | None) -> None:
        self._home = home
        self._seen: dict[int, object] = {}

    def parts(self, value: Any, depth: int = 0) -> Iterator[str]:
        """Texts that together say what `value` is."""
        if isinstance(value, _PLAIN):
            yield f"{type(value).__name__}:{value!r}"
            return
        if id(value) in self._seen or depth > _DEEPEST:
            yield f"again:{list(self._seen).index(id(value)) if id(value) in self._seen else '...'}"
            return
        self._seen[id(value)] = value
        yield type(value).__qualname__
        for part in self._inside(value):
            yield from self.parts(part, depth + 1)
        yield "end"

    def _inside(self, value: Any) -> Iterator[Any]:
        if isinstance(value, (list, tuple)):
            yield from value
        elif isinstance(value, (set, frozenset)):
            yield from sorted(value, key=repr)
        elif isinstance(value, dict):
            for key in sorted(value, key=repr):
                yield from (key, value[key])
        elif isinstance(value, re.Pattern):
            yield from (value.pattern, value.flags)
        elif isinstance(value, functools.partial):
            yield from (value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, types.FunctionType):
            yield from self._of_function(value)
        elif isinstance(value, types.CodeType):
            yield from (value.co_code, value.co_names, value.co_varnames, value.co_consts)
        elif isinstance(value, types.ModuleType):
            yield value.__name__
        elif isinstance(value, type):
            yield from self._of_class(value)
        else:
            yield from self._of_object(value)

    def _of_function(self, function: types.FunctionType) -> Iterator[Any]:
        yield f"{function.__module__}:{function.__qualname__}"
        if function.__module__ != self._home:
            return
        yield (
            source_of(function) if function.__name__ != "<lambda>" else None
        ) or function.__code__
        yield from (function.__defaults__, function.__kwdefaults__)
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            yield name
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                yield None
        for name in _names(function.__code__):
            if name in function.__globals__:
                yield from (name, function.__globals__[name])

    def _of_class(self, kind: type) -> Iterator[Any]:
        yield f"{kind.__module__}:{kind.__qualname__}"
        if kind.__module__ != self._home:
            return
        yield from kind.__mro__[1:-1]
        for name, member in sorted(vars(kind).items()):
            if isinstance(member, (staticmethod, classmethod)):
                member = member.__func__
            if isinstance(member, property):
                yield from (name, member.fget)
            elif isinstance(member, (types.FunctionType, *_PLAIN)) and name not in _VARYING:
                yield from (name, member)

    def _of_object(self, value: object) -> Iterator[Any]:
        yield type(value)
        if type(value).__module__ != self._home:
            contents = getattr(value, "tobytes", None)  # an array
            if callable(contents) and type(value).__module__ == "numpy":
                yield from (str(getattr(value, "dtype", "")), contents())
            return
        held = dict(getattr(value, "__dict__", {}))
        for kind in type(value).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if hasattr(value, name):
                    held[name] = getattr(value, name)
        yield held


_VARYING = ("__module__", "__doc__", "__firstlineno__", "__qualname__", "__dict__", "__weakref__")


def _names(code: types.CodeType) -> list[str]:
    """The globals that a function, or one inside it, may name."""
    inner = [
        name for one in code.co_consts if isinstance(one, types.CodeType) for name in _names(one)
    ]
    return sorted({*code.co_names, *inner})


def source_of(found: object) -> str | None:
    """The source of a module, class or function; None where there is none."""
    try:
        return inspect.getsource(found)  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
