"""From `--proposal` to variants: which unsafe version of the target speaks, and why.

What was found stands in DIR/proposal.json (and DIR/direction/ for a direction), so that a resume
uses the same and another proposal is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.judges import Judge
from tailbound.runs.layout import PROPOSAL
from tailbound.runs.spend import stages_kept
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.targets import Target
from tailbound.targets.registry import provider as target_provider
from tailbound.workflows.risk.proposals.base import (
    Instructions,
    Proposal,
    ProposalQuery,
    ProposalRequest,
    no_weights,
)
from tailbound.workflows.risk.proposals.registry import find_proposal

SCHEMA = 1
TOO_FEW = (
    "--proposal-family mix-switch tunes on a tenth of the prompts and leaves them out: give at "
    "least 2 prompts, or use the ladder"
)


def check_proposal(
    spec: str,
    target: str | Target,
    *,
    folder: Path,
    instructions: Instructions,
    family: str = "ladder",
    prompts: int | None = None,
) -> None:
    """Find what `make_proposal` would refuse without a model; nothing is loaded or written.

    `target` is its spec, or itself, and `prompts` their number. Raises `UsageError` for options
    that do not go together, files that are missing or cannot be read, and extras that are not
    installed, and `ContractMismatchError` where the run in `folder` uses another proposal.
    """
    provider, name = find_proposal(spec)
    shown = target if isinstance(target, str) else target.contract.target
    if provider is not None and provider.white_box and not target_provider(target).white_box:
        raise UsageError(no_weights(spec, shown))
    own_prompts = provider is not None and provider.takes_instructions and not name
    if (instructions.harmful or instructions.harmless) and not own_prompts:
        raise UsageError(
            f"--harmful and --harmless go with --proposal refusal, not {spec}: remove them"
        )
    if provider is None and family != "ladder":
        raise UsageError(
            f"--proposal-family {family} needs a proposal, and --proposal none has none: remove it"
        )
    if family == "mix-switch" and prompts is not None and prompts < 2:
        raise UsageError(TOO_FEW)
    record = _record(folder, spec)
    if provider is not None and provider.check is not None:
        provider.check(
            ProposalQuery(
                spec=spec,
                name=name,
                target=target,
                folder=folder,
                instructions=instructions,
                record=record,
            )
        )


def make_proposal(
    spec: str,
    target: Target,
    judge: Judge,
    prompts: Sequence[Prompt],
    *,
    folder: Path,
    instructions: Instructions | None = None,
    seed: int = 0,
) -> Proposal:
    """The proposal that `spec` asks for, from the record in `folder` where there is one.

    Raises `UsageError` for what cannot be built and `ContractMismatchError` where the run in
    `folder` uses another one.
    """
    provider, name = find_proposal(spec)
    with stages_kept(folder):
        record = _record(folder, spec)
        if provider is None:
            made = Proposal(spec=spec, id="none", target=target)
        else:
            made = provider.make(
                ProposalRequest(
                    spec=spec,
                    name=name,
                    target=target,
                    judge=judge,
                    prompts=prompts,
                    folder=folder,
                    instructions=instructions or Instructions(),
                    record=record,
                    seed=seed,
                )
            )
        if record is not None and record["id"] != made.id:
            raise ContractMismatchError(
                f"{folder} holds draws of proposal {record['id']!r}, and this one is {made.id!r}: "
                "use another --out"
            )
        make_folder(folder)
        write_json(
            folder / PROPOSAL,
            {"schema": SCHEMA, "spec": spec, "id": made.id, "evidence": made.evidence},
        )
        return made


def _record(folder: Path, spec: str) -> dict[str, Any] | None:
    path = folder / PROPOSAL
    if not path.is_file():
        return None
    held = read_json(path)
    with understood(path):
        held["id"], held["evidence"]
    if held.get("spec") != spec:
        raise ContractMismatchError(
            f"{folder} holds a run with --proposal {held.get('spec')}, not {spec}: "
            "use another --out, or the same options as before"
        )
    return held
