"""Targets by name: `provider:name`, found through the entry points `tailbound.targets`."""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import Any, cast

from tailbound.contract import SamplingOptions
from tailbound.errors import UsageError
from tailbound.steps import step
from tailbound.targets.base import Target

GROUP = "tailbound.targets"

BUILT_IN = {
    "demo": "tailbound.demo.target:load",
    "hf": "tailbound.targets.huggingface:load",
    "openai": "tailbound.targets.endpoint:load",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""


def list_targets() -> dict[str, str]:
    """Provider to the `module:function` that loads it, sorted by provider.

    >>> list_targets()["demo"]
    'tailbound.demo.target:load'
    """
    plugins = {point.name: point.value for point in entry_points(group=GROUP)}
    return dict(sorted({**BUILT_IN, **plugins}.items()))


def load_target(spec: str, options: SamplingOptions, **engine: Any) -> Target:
    """The target that `spec`, `provider:name` or `provider`, means.

    `engine` (batch_size, dtype, device, revision, ...) goes to the provider. Raises `UsageError`
    for an unknown provider and whatever the provider raises.
    """
    provider, _, name = spec.partition(":")
    known = list_targets()
    if provider not in known:
        raise UsageError(_unknown(spec, provider, known))
    module, _, function = known[provider].partition(":")
    load = getattr(importlib.import_module(module), function)
    with step(f"loading {spec}"):
        return cast(Target, load(name, options, **engine))


def check_target(spec: str, **engine: Any) -> None:
    """Find what is wrong with `spec` and `engine` without loading anything.

    Raises what `load_target` would raise at once: an unknown provider, and what the provider's own
    `check(name, **engine)`, a function beside its loader, finds. Providers without one are not
    looked into.
    """
    provider, _, name = spec.partition(":")
    known = list_targets()
    if provider not in known:
        raise UsageError(_unknown(spec, provider, known))
    check = getattr(importlib.import_module(known[provider].partition(":")[0]), "check", None)
    if check is not None:
        check(name, **engine)


def _unknown(spec: str, provider: str, known: dict[str, str]) -> str:
    if "/" in provider:
        return f"target {spec!r} names no provider: write hf:{spec} for a Hugging Face model"
    close = difflib.get_close_matches(provider, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown target provider {provider!r}: {hint}known are {', '.join(known)}"
