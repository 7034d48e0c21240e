"""Targets by name: `provider:name`, found through the entry points `tailbound.targets`."""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any, cast

from tailbound.core.contract import SamplingOptions
from tailbound.core.plugins import Registry
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.targets.base import Target
from tailbound.targets.capabilities import PaidTarget, WhiteBox
from tailbound.targets.provider import DEFAULTS, NOT_REFUSED, TargetProvider

GROUP = "tailbound.targets"

BUILT_IN = {
    "demo": "tailbound.demo.target:provider",
    "hf": "tailbound.targets.huggingface:provider",
    "inspect-model": "tailbound.targets.inspect_model:provider",
    "openai": "tailbound.targets.endpoint:provider",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""

_REGISTRY = Registry(GROUP, "target provider", BUILT_IN)


def list_targets() -> dict[str, str]:
    """Provider to the `module:object` that declares it, sorted by provider.

    >>> list_targets()["demo"]
    'tailbound.demo.target:provider'
    """
    return _REGISTRY.places()


def provider(target: str | Target) -> TargetProvider:
    """What is known about a target, `provider:name` or an object, without loading a model.

    Of an object, its provider's declaration where its contract names one; whether its network is
    at hand and whether it is paid is seen from itself. Raises `UsageError` for the name of an
    unknown provider and for a plugin that cannot be imported.

    >>> provider("openai:gpt-4o-mini").served, provider("demo").default_max_new_tokens
    (True, 32)
    """
    if isinstance(target, str):
        return _declared(target)
    name = target.contract.target
    known = name.partition(":")[0] in _REGISTRY.plugins()
    found = _declared(name) if known else TargetProvider(load=lambda *_: target)
    return replace(
        found, white_box=isinstance(target, WhiteBox), served=isinstance(target, PaidTarget)
    )


def describe_targets() -> dict[str, str]:
    """Provider to what it says of itself, else to where it comes from, sorted by provider."""
    return {name: _description(name, place) for name, place in list_targets().items()}


def _description(name: str, place: str) -> str:
    try:
        return provider(name).description or f"from {place}"
    except UsageError as error:  # a plugin that cannot be imported
        return str(error)


def accepted_options(target: str, **given: Any) -> dict[str, Any]:
    """Those of the loader options `given` that the provider of `target` takes.

    Options at their defaults (`tailbound.targets.provider.DEFAULTS`, else None) ask for nothing.
    Raises `UsageError` for another one that it does not take.
    """
    found = provider(target)
    kept = {}
    for option, value in given.items():
        if found.takes(option):
            kept[option] = value
        elif option not in NOT_REFUSED and value != DEFAULTS.get(option):
            name, colon, _ = target.partition(":")
            raise UsageError(
                f"--{option.replace('_', '-')} does not apply to {name}{colon} targets: remove it"
            )
    return kept


def load_target(spec: str, options: SamplingOptions, **engine: Any) -> Target:
    """The target that `spec`, `provider:name` or `provider`, means.

    `engine` (batch_size, dtype, device, revision, ...) goes to the provider. Raises `UsageError`
    for an unknown provider, an option that it does not take, and whatever the provider raises.
    """
    kept = accepted_options(spec, **engine)
    with step(f"loading {spec}"):
        return cast(Target, provider(spec).load(_name(spec), options, **kept))


def check_target(spec: str, **engine: Any) -> None:
    """Find what is wrong with `spec` and `engine` without loading anything.

    Raises what `load_target` would raise at once: an unknown provider, an option that it does not
    take, and what the provider's own `check` finds. Providers without one are not looked into.
    """
    kept = accepted_options(spec, **engine)
    check = provider(spec).check
    if check is not None:
        check(_name(spec), **kept)


def _name(spec: str) -> str:
    return spec.partition(":")[2]


def _declared(spec: str) -> TargetProvider:
    name = spec.partition(":")[0]
    if "/" in name and name not in _REGISTRY.plugins():
        raise UsageError(
            f"target {spec!r} has no provider: write hf:{spec} for a Hugging Face model"
        )
    known = list(_REGISTRY.plugins())
    if name and name not in known and not difflib.get_close_matches(name, known, n=1):
        raise UsageError(
            f"unknown target provider {name!r}: did you mean hf:{spec}, a Hugging Face model, or "
            f"openai:{spec}, a model behind a server? known are {', '.join(known)}"
        )
    return _REGISTRY.declared(name, TargetProvider, function="load")
