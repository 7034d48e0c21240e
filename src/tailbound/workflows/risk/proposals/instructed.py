"""`prompt:FILE`: the target under another system prompt."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.targets import WhiteBox
from tailbound.workflows.risk.proposals.base import Proposal, ProposalQuery, ProposalRequest
from tailbound.workflows.risk.proposals.registry import ProposalProvider


def check(query: ProposalQuery) -> None:
    """Raise `UsageError` for a file that cannot be read or is empty."""
    _text(query.name)


def make(request: ProposalRequest) -> Proposal:
    """The target under the system prompt in the file."""
    return under(request.spec, request.white_box, _text(request.name), {})


def under(spec: str, target: WhiteBox, system: str, evidence: dict[str, Any]) -> Proposal:
    """The target under the system prompt `system`."""
    from tailbound.targets.decoding.proposals import instructed

    digest = hashlib.sha256(system.encode()).hexdigest()[:16]
    return Proposal(
        spec=spec,
        id=f"prompt:{digest}",
        target=target,
        variant=lambda intensity: instructed(target, system, name=f"prompt:{digest}"),
        evidence={"kind": "prompt", "system": system, **evidence},
    )


def _text(name: str) -> str:
    path = Path(name).expanduser()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the system prompt {name} cannot be read: {error}") from error
    if not text:
        raise UsageError(f"the system prompt {name} is empty")
    return text


provider = ProposalProvider(
    make=make,
    check=check,
    placeholder="FILE",
    white_box=True,
    description="prompt:FILE: another system prompt",
)
