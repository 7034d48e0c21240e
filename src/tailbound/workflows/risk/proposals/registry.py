"""Proposals by name: `kind:name`, found through the entry points `tailbound.proposals`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tailbound.core.plugins import Registry
from tailbound.errors import UsageError
from tailbound.workflows.risk.proposals.base import (
    EXPLORE,
    LEARN,
    Proposal,
    ProposalQuery,
    ProposalRequest,
)

GROUP = "tailbound.proposals"
NONE, SPLITTING = "none", "splitting"
ALONE = (NONE, SPLITTING)
"""Specs that are no unsafe version of the target, and stand alone."""

_HOME = "tailbound.workflows.risk.proposals"
BUILT_IN = {
    "lora": f"{_HOME}.networks:lora",
    "model": f"{_HOME}.networks:model",
    "persona": f"{_HOME}.persona:provider",
    "prompt": f"{_HOME}.instructed:provider",
    "refusal": f"{_HOME}.refusal:provider",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""

_REGISTRY = Registry(GROUP, "proposal", BUILT_IN, reserved=(*ALONE, EXPLORE, LEARN))


@dataclass(frozen=True, kw_only=True)
class ProposalProvider:
    """How the proposals of one kind are made.

    `make(request)` gives the proposal; `check(query)`, if there is one, raises what it would raise
    at once and loads nothing. `placeholder` shows what stands behind the colon, such as "FILE"
    ("" where nothing may), and `optional` whether it may be left out. `white_box` proposals need a
    target whose network is at hand; others need one that is a `VariantSource`.
    `takes_instructions`: --harmful and --harmless go with it, where it has no name.
    """

    make: Callable[[ProposalRequest], Proposal]
    check: Callable[[ProposalQuery], None] | None = None
    placeholder: str = "NAME"
    optional: bool = False
    white_box: bool = False
    takes_instructions: bool = False
    description: str = ""


def list_proposals() -> dict[str, str]:
    """Kind of proposal to the `module:object` that declares it, sorted by kind.

    >>> list_proposals()["refusal"]
    'tailbound.workflows.risk.proposals.refusal:provider'
    """
    return _REGISTRY.places()


def find_proposal(spec: str) -> tuple[ProposalProvider | None, str]:
    """The provider of `kind` or `kind:name`, None for those `ALONE`, and the name; nothing is read.

    Raises `UsageError` for a kind that does not exist, and for a name that is missing or too much.
    """
    kind, colon, name = spec.partition(":")
    if kind in ALONE and not colon:
        return None, ""
    found = _REGISTRY.declared(kind, ProposalProvider, function="make", shown=spec)
    if colon and not name:
        raise UsageError(f"--proposal {spec!r} ends with a colon: add a name, or remove it")
    if name and not found.placeholder:
        raise UsageError(f"--proposal {kind} takes no name, not {name!r}: remove it")
    if not name and found.placeholder and not found.optional:
        raise UsageError(f"--proposal {kind} needs a name: {kind}:{found.placeholder}")
    return found, name
