"""`persona:NAME`: a trait, by its vector or one of its system prompts; a pilot chooses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.errors import UsageError
from tailbound.steering.checks import NOTE_FILE, read_note
from tailbound.targets import Target
from tailbound.targets.registry import provider as target_provider
from tailbound.workflows.risk.proposals.base import Proposal, ProposalQuery, ProposalRequest
from tailbound.workflows.risk.proposals.instructed import under
from tailbound.workflows.risk.proposals.refusal import along
from tailbound.workflows.risk.proposals.registry import ProposalProvider
from tailbound.workflows.risk.select_proposal import select_proposal

if TYPE_CHECKING:
    from tailbound.steering import Trait


def check(query: ProposalQuery) -> None:
    """Raise `UsageError` for a trait that is not known, and a direction that cannot be read."""
    find_trait(query.name, query.target)
    own = query.kept
    if query.record is not None and (own / NOTE_FILE).is_file():
        read_note(own)


def make(request: ProposalRequest) -> Proposal:
    """The candidate with the most effective hits; the one on record where there is one."""
    from tailbound.steering import Direction, find_persona_vector

    target, record = request.white_box, request.record
    trait = find_trait(request.name, target)
    own = request.kept
    candidates = [
        under(request.spec, target, system, {"kind": "trait system prompt"})
        for system in trait.positive
    ]
    notices: tuple[str, ...] = ()
    if (own / NOTE_FILE).is_file():  # written last
        candidates.append(along(request.spec, target, Direction.load(own)))
    elif record is None:
        try:
            direction = find_persona_vector(target, trait, request.judge, seed=request.seed)
        except UsageError as error:
            notices = (f"no persona vector: {error}",)
        else:
            direction.save(own)
            candidates.append(along(request.spec, target, direction))
    if record is not None:
        for candidate in candidates:
            if candidate.id == record["id"]:
                return candidate.with_evidence(record["evidence"], ())
        raise UsageError(
            f"the trait {request.name} changed since the run in {request.folder} began: use "
            "another --out"
        )
    best, evidence = select_proposal(candidates, request.judge, request.prompts, seed=request.seed)
    return best.with_evidence({**best.evidence, "pilot": evidence}, notices)


def find_trait(name: str, target: str | Target) -> Trait:
    """The trait in the file `name`, or one of that name: the provider's own, else tailbound's.

    Raises `UsageError` where there is neither.
    """
    from tailbound.steering.traits import Trait

    if Path(name).expanduser().is_file():
        return Trait.read(Path(name).expanduser())
    traits = target_provider(target).traits
    if traits is not None:
        return traits(name)
    return Trait.named(name)


provider = ProposalProvider(
    make=make,
    check=check,
    white_box=True,
    description="persona:NAME or :FILE: a trait, by its vector or one of its system prompts",
)
