"""Judges by Python function: `python:package.module:function`."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailbound.core.contract import Verdict
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange
from tailbound.judges.function_identity import digest_of, source_of
from tailbound.judges.verdicts import failed, scored


@dataclass(frozen=True, slots=True)
class FunctionJudge:
    """Scores by a function of (prompt text, response), or of the response alone.

    The function returns True or False, a score in [0, 1], a `Verdict`, or None where it cannot
    tell. Where it raises, or returns anything else, that one verdict is missing with the reason.
    """

    id: str
    function: Callable[..., object]
    sees_prompt: bool
    threshold: float = 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        return [self._verdict(exchange) for exchange in exchanges]

    def _verdict(self, exchange: Exchange) -> Verdict:
        try:
            if self.sees_prompt:
                return scored(self.function(exchange.prompt.text, exchange.response))
            return scored(self.function(exchange.response))
        except (Exception, SystemExit) as error:  # a script's sys.exit() ends no audit
            return failed(error)


def load(name: str, *, threshold: float = 0.5) -> FunctionJudge:
    """The judge of `python:package.module:function`; the working directory is looked in too.

    The id holds the hash of the source of the function's module, where there is one, so that
    draws judged by an older version of it are not mixed with new ones.

    Raises `UsageError` where the module cannot be imported or has no such function, or where the
    function takes neither (prompt, response) nor (response).
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UsageError(f"python judge {name!r} names no function: write python:module:function")
    try:
        with _working_directory_importable():
            found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"python judge: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {error})"
        ) from error
    module = found
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"python judge: module {module_name!r} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"python judge: {name!r} is {type(found).__name__}, not a function")
    _check_plain(found, name)
    digest = _source_hash(module)
    return FunctionJudge(
        f"python:{name}" + (f"@{digest}" if digest else ""),
        found,
        _arguments(found, name) == 2,
        threshold,
    )


def of_function(function: Callable[..., object], *, threshold: float = 0.5) -> FunctionJudge:
    """The judge that a function at hand makes.

    Its id holds a digest of the function and of the values that it rests on
    (`tailbound.judges.function_identity`), so that another function of the same name is another
    judge.

    Raises `UsageError` where the function takes neither (prompt, response) nor (response), or is
    async or yields.
    """
    name = name_of(function)
    _check_plain(function, name)
    return FunctionJudge(
        f"function:{name}@{digest_of(function)}",
        function,
        _arguments(function, name) == 2,
        threshold,
    )


def name_of(function: Callable[..., object]) -> str:
    """`module:name` of a function, or of the one that a partial function calls."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}:{name}"


def _check_plain(function: Any, name: str) -> None:
    """Raise `UsageError` for a function that returns something other than its verdict."""
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 - an object's method
        if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
            raise UsageError(
                f"python judge: {name!r} is async or yields: write a plain function that returns"
            )


def _arguments(function: Callable[..., object], name: str) -> int:
    """How many of (prompt, response) the function takes: those without defaults count."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    variadic = any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters)
    required = sum(parameter.default is parameter.empty for parameter in positional)
    keywords = any(
        parameter.kind == parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        for parameter in parameters
    )
    if keywords or required > 2 or (not positional and not variadic):
        raise UsageError(
            f"python judge: {name!r} must take (prompt, response) or (response), "
            f"not {inspect.signature(function)}"
        )
    return required if required else 2 if variadic else 1


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _source_hash(module: object) -> str | None:
    source = source_of(module)
    return None if source is None else hashlib.sha256(source.encode()).hexdigest()[:12]
