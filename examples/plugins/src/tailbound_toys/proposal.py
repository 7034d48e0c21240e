"""The proposal `louder:CHANCE`: the toy, saying `NO` with probability CHANCE.

Explorers take part beside it, because the toy can be heated (`ToyTarget.heated`): so estimates can
be resolved. A proposal has nothing to do for that.
"""

from __future__ import annotations

import math

from tailbound.errors import UsageError
from tailbound.workflows.risk.proposals import (
    Proposal,
    ProposalProvider,
    ProposalQuery,
    ProposalRequest,
)
from tailbound_toys.target import Speaker, ToyTarget


def check(query: ProposalQuery) -> None:
    """Raise `UsageError` for what `make` would refuse, before a model is loaded."""
    _chance(query.name)


def make(request: ProposalRequest) -> Proposal:
    """The proposal; it has intensities, so that `--intensities 1,0.5` adds a weaker version."""
    loud = _chance(request.name)
    if not isinstance(request.target, ToyTarget):
        raise UsageError(f"--proposal {request.spec} goes with --target toy: use another proposal")
    return Proposal(
        spec=request.spec,
        id=f"louder:{loud:g}@1",
        target=request.target,
        variant=lambda share: Speaker(name=f"louder x {share:g}", loud=loud, share=share),
        steerable=True,
        evidence={"kind": "louder", "chance": loud},
    )


def _chance(name: str) -> float:
    try:
        chance = float(name)
    except ValueError:
        chance = math.nan
    if not 0 < chance < 1:
        raise UsageError(f"--proposal louder takes a probability: louder:0.9, not {name!r}")
    return chance


provider = ProposalProvider(
    make=make,
    check=check,
    placeholder="CHANCE",
    description="louder:CHANCE: the toy, saying NO with this probability",
)
