"""`refusal`, `refusal:DIR`: the target without the direction that carries its refusals.

The direction is found from prompts of both kinds, or read from DIR, and kept in the run's
`direction/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailbound.core.prompt import Prompt
from tailbound.prompts import read_prompts
from tailbound.steering.checks import NOTE_FILE, check_instructions, read_note
from tailbound.targets import Target, WhiteBox
from tailbound.targets.registry import provider as target_provider
from tailbound.workflows.risk.proposals.base import (
    Instructions,
    Proposal,
    ProposalQuery,
    ProposalRequest,
)
from tailbound.workflows.risk.proposals.registry import ProposalProvider

if TYPE_CHECKING:
    from tailbound.steering import Direction

_BY_HAND = ", or --proposal refusal:DIR with a direction saved by tailbound steer"


def check(query: ProposalQuery) -> None:
    """Raise `UsageError` for a direction, or files of prompts, that cannot be used."""
    own = query.kept
    if (own / NOTE_FILE).is_file():
        read_note(own)
    elif query.name:
        read_note(Path(query.name).expanduser())
    else:
        check_instructions(
            query.instructions.harmful,
            query.instructions.harmless,
            built_in=target_provider(query.target).example_instructions is not None,
            other=_BY_HAND,
        )


def make(request: ProposalRequest) -> Proposal:
    """The direction on record, that of the name, or one found from the instructions."""
    from tailbound.steering import Direction, find_refusal_direction

    target = request.white_box
    own = request.kept
    if (own / NOTE_FILE).is_file():  # written last
        direction = Direction.load(own)
    elif request.name:
        direction = Direction.load(Path(request.name).expanduser())
        direction.save(own)
    else:
        harmful, harmless = refusal_prompts(target, request.instructions)
        direction = find_refusal_direction(target, harmful, harmless)
        direction.save(own)
    return along(request.spec, target, direction)


def refusal_prompts(
    target: Target, instructions: Instructions
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Harmful and harmless prompts from files; the target's own examples where none are given."""
    if instructions.harmful and instructions.harmless:
        return (
            read_prompts(instructions.harmful).prompts,
            read_prompts(instructions.harmless).prompts,
        )
    examples = target_provider(target).example_instructions
    check_instructions(
        instructions.harmful,
        instructions.harmless,
        built_in=examples is not None,
        other=_BY_HAND,
    )
    assert examples is not None
    return examples()


def along(spec: str, target: WhiteBox, direction: Direction) -> Proposal:
    """The proposal that steers `target` along `direction`."""
    from tailbound.targets.decoding.proposals import steered

    intervention = direction.intervention()
    notice = direction.notice_for(target.contract.target, target.contract.revision)
    return Proposal(
        spec=spec,
        id=intervention.id,
        target=target,
        variant=lambda intensity: steered(
            target, intervention, intensity, name=f"{intervention.id} x {intensity:g}"
        ),
        steerable=True,
        evidence={"kind": direction.kind, **direction.evidence},
        notices=(*direction.evidence.get("warnings", ()), *([notice] if notice else ())),
    )


provider = ProposalProvider(
    make=make,
    check=check,
    placeholder="DIR",
    optional=True,
    white_box=True,
    takes_instructions=True,
    description="refusal[:DIR]: the refusal direction removed",
)
