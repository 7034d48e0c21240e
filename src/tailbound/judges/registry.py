"""Judges by name: `provider:name`, found through the entry points `tailbound.judges`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast

from tailbound.errors import UsageError
from tailbound.judges.base import Judge
from tailbound.steps import step

GROUP = "tailbound.judges"

BUILT_IN = {
    "classifier": "tailbound.judges.classifier:load",
    "demo": "tailbound.demo.judge:load",
    "guard": "tailbound.judges.guard:load",
    "keywords": "tailbound.judges.pattern:load_keywords",
    "python": "tailbound.judges.function:load",
    "regex": "tailbound.judges.pattern:load_regex",
    "rubric": "tailbound.judges.rubric:load",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""


def list_judges() -> dict[str, str]:
    """Provider to the `module:function` that loads it, sorted by provider.

    >>> list_judges()["regex"]
    'tailbound.judges.pattern:load_regex'
    """
    plugins = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted({**BUILT_IN, **plugins}.items()))


def load_judge(spec: str, *, threshold: float | None = None, **options: Any) -> Judge:
    """The judge that `spec`, `provider:name` or `provider`, means.

    `threshold` replaces the judge's own; `options` go to the provider. Raises `UsageError` for an
    unknown provider, an option that it does not take, a threshold outside (0, 1], and whatever
    the provider raises.
    """
    load, name, options = _found(spec, threshold, options)
    with step(f"loading judge {spec if len(spec) <= 60 else spec[:57] + '...'}"):
        return cast(Judge, load(name, **options))


def check_judge(spec: str, *, threshold: float | None = None) -> None:
    """Raise `UsageError` for an unknown provider and options that it does not take.

    Loads nothing: what only the judge's own loader can tell is left to `load_judge`.
    """
    _found(spec, threshold, {})


def _found(
    spec: str, threshold: float | None, options: dict[str, Any]
) -> tuple[Callable[..., Any], str, dict[str, Any]]:
    """(loader, name, options) of the judge that `spec` means."""
    provider, _, name = spec.partition(":")
    known = list_judges()
    if provider not in known:
        close = difflib.get_close_matches(provider, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown judge provider {provider!r}: {hint}known are {', '.join(known)}")
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise UsageError(f"the threshold must lie in (0, 1], not {threshold}")
        options = {**options, "threshold": threshold}
    module, _, function = known[provider].partition(":")
    try:
        load = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:  # a plugin's: our own are tested
        raise UsageError(
            f"judge {provider!r} cannot be loaded from {known[provider]}: {error}: mend or remove "
            "that plugin"
        ) from error
    try:
        inspect.signature(load).bind(name, **options)
    except TypeError as error:
        raise UsageError(f"judge {provider!r} does not take these options: {error}") from error
    return load, name, options
