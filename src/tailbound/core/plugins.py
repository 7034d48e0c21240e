"""Plugins: what other packages add to tailbound by entry points, beside what is built in.

A plugin may be a plain function or an object with attributes; `declaration` reads either. Nothing
is imported before it is asked for by name, so that a broken plugin disturbs only those who use it.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from tailbound.errors import TailboundError, UsageError

T = TypeVar("T")

OWN = "tailbound"
"""The distribution whose entry points are the built-in ones: the registries list these themselves,
so that they are found in a bare checkout too."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One name of a registry: where it is, and the distribution that brings it (None: built in)."""

    name: str
    place: str
    distribution: str | None = None

    def __str__(self) -> str:
        return self.place if self.distribution is None else f"{self.place} ({self.distribution})"


class Registry:
    """The names of one group of entry points.

    `kind` is what a message calls one of them; `reserved` are names that mean something without a
    plugin. A name that two distributions declare is refused when it is used.
    """

    def __init__(
        self, group: str, kind: str, built_in: Mapping[str, str], *, reserved: tuple[str, ...] = ()
    ) -> None:
        self._group = group
        self._kind = kind
        self._built_in = built_in
        self._reserved = reserved

    def plugins(self) -> dict[str, tuple[Plugin, ...]]:
        """All that is declared under each name, sorted by name; nothing is imported."""
        found = {name: [Plugin(name, place)] for name, place in self._built_in.items()}
        for point, distribution in _entries(self._group, tuple(sys.path)):
            plugin = Plugin(point.name, point.value, distribution)
            found.setdefault(point.name, []).append(plugin)
        return {name: tuple(found[name]) for name in sorted(found)}

    def places(self) -> dict[str, str]:
        """Name to `module:object`, sorted by name."""
        return {name: declared[0].place for name, declared in self.plugins().items()}

    def find(self, name: str, *, shown: str | None = None) -> Plugin:
        """The plugin called `name`; `shown` is how the user wrote it.

        Raises `UsageError` for an unknown name, with all that there are, and for one that two
        distributions declare.
        """
        known = self.plugins()
        if name not in known or name in self._reserved:
            names = sorted({*self._reserved, *known})
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(
                f"unknown {self._kind} {(shown or name)!r}: {hint}known are {', '.join(names)}"
            )
        declared = known[name]
        if len(declared) > 1:
            both = " and ".join(plugin.distribution or OWN for plugin in declared)
            raise UsageError(
                f"{self._kind} {name!r} is declared by {both}: uninstall all but one of them"
            )
        return declared[0]

    def load(self, plugin: Plugin) -> Any:
        """Import what `plugin` names; raises `UsageError`, one line, where that fails."""
        try:
            return EntryPoint(plugin.name, plugin.place, self._group).load()
        except TailboundError:
            raise
        except Exception as error:  # a plugin's module may raise anything
            whose = "" if plugin.distribution is None else f" of {plugin.distribution}"
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UsageError(
                f"{self._kind} {plugin.name!r}{whose} cannot be loaded from {plugin.place}: "
                f"{reason}: fix or remove that plugin"
            ) from error

    def declared(self, name: str, form: type[T], *, function: str, shown: str | None = None) -> T:
        """The declaration of `name`, as a `form`; raises as `find` and `load` do."""
        plugin = self.find(name, shown=shown)
        found = self.load(plugin)
        try:
            return declaration(found, form, function=function)
        except UsageError as error:
            raise UsageError(f"{self._kind} {name!r} from {plugin}: {error}") from error


@lru_cache(maxsize=16)
def _entries(group: str, path: tuple[str, ...]) -> tuple[tuple[EntryPoint, str], ...]:
    """Entry points of other distributions, each with the name and version of its own."""
    del path  # a part of the key: what is installed depends on it
    found = []
    for point in entry_points(group=group):
        if point.dist is None or point.dist.name != OWN:
            whose = "?" if point.dist is None else f"{point.dist.name} {point.dist.version}"
            found.append((point, whose))
    return tuple(found)


def declaration(found: object, form: type[T], *, function: str) -> T:
    """What an entry point gave, as a `form` (a dataclass).

    It may be a `form` already; an object, a module for instance, with attributes named as the
    fields of `form`, of which `function` must be one; or a function, which is then that field.
    Raises `UsageError` for anything else, and what `form` raises.
    """
    if isinstance(found, form):
        return found
    names = [field.name for field in fields(form)]  # type: ignore[arg-type]
    given = {name: getattr(found, name) for name in names if hasattr(found, name)}
    if function not in given:
        if not callable(found):
            raise UsageError(
                f"it must be a function, or an object with {function!r}, not {type(found).__name__}"
            )
        if isinstance(found, type):
            raise UsageError(f"it is the class {found.__name__}: name an object or a function")
        given = {function: found}
    if not callable(given[function]):
        raise UsageError(f"{function!r} must be a function, not {type(given[function]).__name__}")
    return form(**given)


def keyword_options(function: Any) -> frozenset[str] | None:
    """The names of the keyword-only parameters of a loader; None where it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
