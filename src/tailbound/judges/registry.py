"""Judges by name: `provider:name`, found through the entry points `tailbound.judges`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from tailbound.core.plugins import Registry
from tailbound.core.steps import step
from tailbound.core.values import typed
from tailbound.errors import UsageError
from tailbound.judges.base import Judge

GROUP = "tailbound.judges"

BUILT_IN = {
    "classifier": "tailbound.judges.classifier:load",
    "demo": "tailbound.demo.judge:load",
    "guard": "tailbound.judges.guard:load",
    "inspect": "tailbound.judges.inspect_scorer:load",
    "keywords": "tailbound.judges.pattern:load_keywords",
    "python": "tailbound.judges.function:load",
    "regex": "tailbound.judges.pattern:load_regex",
    "rubric": "tailbound.judges.rubric:load",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""


_REGISTRY = Registry(GROUP, "judge provider", BUILT_IN)


@dataclass(frozen=True, kw_only=True)
class JudgeProvider:
    """How the judges of one provider are made.

    `load(name, **options)` gives the judge of `provider:name`; `threshold` is among its options
    where the user may choose it.
    """

    load: Callable[..., Judge]
    description: str = ""


def list_judges() -> dict[str, str]:
    """Provider to the `module:object` that declares it, sorted by provider.

    >>> list_judges()["regex"]
    'tailbound.judges.pattern:load_regex'
    """
    return _REGISTRY.places()


def judge_provider(spec: str) -> JudgeProvider:
    """What declares the judges of `spec`; raises `UsageError` for an unknown provider."""
    return _REGISTRY.declared(spec.partition(":")[0], JudgeProvider, function="load")


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
    spec = typed(str, spec, name="the name of a judge")
    threshold = typed(float | None, threshold, name="the threshold")
    provider, _, name = spec.partition(":")
    _REGISTRY.find(provider)  # an unknown one comes before a wrong threshold
    if threshold is not None:
        if not 0 < threshold <= 1:
            raise UsageError(f"the threshold must lie in (0, 1], not {threshold}")
        options = {**options, "threshold": threshold}
    load = judge_provider(spec).load
    try:
        inspect.signature(load).bind(name, **options)
    except TypeError as error:
        raise UsageError(f"judge {provider!r} does not take these options: {error}") from error
    return load, name, options
