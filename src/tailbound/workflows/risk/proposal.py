"""From `--proposal` to variants: which unsafe version of the target speaks, and why.

What was found stands in DIR/proposal.json (and DIR/direction/ for a direction), so that a resume
uses the same and another proposal is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailbound.core.extras import require
from tailbound.core.prompt import Prompt
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.huggingface.adapters import check_adaptable
from tailbound.judges import Judge
from tailbound.runs.layout import DIRECTION, PROPOSAL
from tailbound.runs.spend import stages_kept
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.targets import Target
from tailbound.targets.capabilities import Heatable, WhiteBox
from tailbound.targets.registry import provider as target_provider
from tailbound.workflows.risk.proposals.base import (
    EXPLORE,
    LEARN,
    Instructions,
    Proposal,
    ProposalQuery,
    ProposalRequest,
    Proposals,
    no_weights,
)
from tailbound.workflows.risk.proposals.registry import (
    ALONE,
    NONE,
    SPLITTING,
    find_proposal,
)
from tailbound.workflows.risk.settings import LEAST_DRAWS

SCHEMA = 2
TOO_FEW = (
    "--proposal-family mix-switch tunes on a tenth of the prompts and leaves them out: give at "
    "least 2 prompts, or use the ladder"
)


def check_proposal(
    specs: Sequence[str],
    target: str | Target,
    *,
    folder: Path,
    instructions: Instructions,
    explore: bool = True,
    family: str = "ladder",
    batches: int | None = None,
    prompts: int | None = None,
) -> None:
    """Find what `make_proposal` would refuse without a model; nothing is loaded or written.

    `target` is its spec, or itself; `prompts` is their number, `batches` the most that one may get
    (None: not known). Raises `UsageError` for options that do not go together, files that are
    missing or cannot be read, and extras that are not installed, and `ContractMismatchError` where
    the run in `folder` uses another proposal.
    """
    parts = unsafe_versions(specs)
    declared = target_provider(target)
    shown = target if isinstance(target, str) else target.contract.target
    if EXPLORE in specs and not explore:
        raise UsageError(f"--proposal {EXPLORE} and --no-explore contradict each other: remove one")
    if LEARN in specs:
        if not declared.white_box:
            raise UsageError(no_weights(LEARN, shown, served=declared.served))
        _check_learning(explore=explore, family=family, batches=batches)
    takes_prompts = False
    if EXPLORE in specs and declared.served and not declared.white_box:
        raise UsageError(no_weights(EXPLORE, shown, served=True))
    for spec in parts:
        provider, name = find_proposal(spec)
        assert provider is not None
        if provider.white_box and not declared.white_box:
            raise UsageError(no_weights(spec, shown, served=declared.served))
        takes_prompts |= provider.takes_instructions and not name
    if (instructions.harmful or instructions.harmless) and not takes_prompts:
        raise UsageError(
            f"--harmful and --harmless go with --proposal refusal, not {' and '.join(specs)}: "
            "remove them"
        )
    if family != "ladder" and len(parts) != 1:
        raise UsageError(
            f"--proposal-family {family} takes one proposal, and there are {len(parts)}: use the "
            "ladder, or give one --proposal"
        )
    if family == "mix-switch" and prompts is not None and prompts < 2:
        raise UsageError(TOO_FEW)
    records = _records(folder, specs, explore=explore)
    for number, spec in enumerate(parts):
        provider, name = find_proposal(spec)
        if provider is not None and provider.check is not None:
            provider.check(
                ProposalQuery(
                    spec=spec,
                    name=name,
                    target=target,
                    folder=folder,
                    instructions=instructions,
                    record=None if records is None else records[number],
                    kept=_kept(folder, number),
                )
            )


def _check_learning(*, explore: bool, family: str, batches: int | None) -> None:
    """Raise `UsageError` where no adapter can be learned, and `MissingExtraError` without peft."""
    if not explore:
        raise UsageError(
            f"--proposal {LEARN} learns from what explorers find, and --no-explore leaves them "
            "out: remove one"
        )
    if family != "ladder":
        raise UsageError(
            f"--proposal {LEARN} goes with the ladder, not with --proposal-family {family}: remove "
            "one"
        )
    if batches == 1:
        raise UsageError(
            f"--proposal {LEARN} learns between batches, and so few --draws are one batch: give "
            f"{LEAST_DRAWS} or more"
        )
    require(f"--proposal {LEARN}", "lora")


def make_proposal(
    specs: Sequence[str],
    target: Target,
    judge: Judge,
    prompts: Sequence[Prompt],
    *,
    folder: Path,
    instructions: Instructions | None = None,
    explore: bool = True,
    seed: int = 0,
) -> Proposals:
    """The proposals that `specs` ask for, from the record in `folder` where there is one.

    With `explore`, a target whose network is at hand also draws heated and reweighted; `learned`
    among `specs` needs one of which an adapter can be trained. Raises `UsageError` for what cannot
    be built and `ContractMismatchError` where the run in `folder` uses other proposals.
    """
    parts = unsafe_versions(specs)
    if LEARN in specs:
        if not isinstance(target, WhiteBox):
            raise UsageError(no_weights(LEARN, target.contract.target))
        _check_learning(explore=explore, family="ladder", batches=None)
        with target.network.bare() as model:
            check_adaptable(model, target.contract.target)
    explore = explore and isinstance(target, Heatable) and NONE not in specs
    if EXPLORE in specs and not explore:
        raise UsageError(
            f"--proposal {EXPLORE} needs a target that can be heated, and {target.contract.target} "
            "cannot: use --proposal none"
        )
    with stages_kept(folder):
        records = _records(folder, specs, explore=explore, known=True)
        made: list[Proposal] = []
        for number, spec in enumerate(parts):
            record = None if records is None else records[number]
            made.append(
                _make(
                    spec,
                    target,
                    judge,
                    prompts,
                    folder=folder,
                    instructions=instructions or Instructions(),
                    record=record,
                    kept=_kept(folder, number),
                    seed=seed,
                )
            )
            if record is not None and record["id"] != made[-1].id:
                raise ContractMismatchError(
                    f"{folder} holds draws of proposal {record['id']!r}, and this one is "
                    f"{made[-1].id!r}: use another --out"
                )
        found = Proposals(target=target, parts=tuple(made), explore=explore, learn=LEARN in specs)
        write_record(folder, spec=found.spec, id=found.id, explore=explore, parts=made)
        return found


def write_record(
    folder: Path,
    *,
    spec: Sequence[str],
    id: str,
    explore: bool = False,
    parts: Sequence[Proposal] = (),
) -> None:
    """Write `proposal.json` of the run in `folder`."""
    make_folder(folder)
    write_json(
        folder / PROPOSAL,
        {
            "schema": SCHEMA,
            "spec": list(spec),
            "explore": explore,
            "id": id,
            "parts": [
                {"spec": part.spec, "id": part.id, "evidence": part.evidence} for part in parts
            ],
        },
    )


def _make(
    spec: str,
    target: Target,
    judge: Judge,
    prompts: Sequence[Prompt],
    *,
    folder: Path,
    instructions: Instructions,
    record: dict[str, Any] | None,
    kept: Path,
    seed: int,
) -> Proposal:
    provider, name = find_proposal(spec)
    assert provider is not None
    return provider.make(
        ProposalRequest(
            spec=spec,
            name=name,
            target=target,
            judge=judge,
            prompts=prompts,
            folder=folder,
            instructions=instructions,
            record=record,
            seed=seed,
            kept=kept,
        )
    )


def unsafe_versions(specs: Sequence[str]) -> list[str]:
    """The specs of unsafe versions among `specs`; `UsageError` for what does not go together."""
    if not specs:
        raise UsageError("--proposal is empty: give one, or none")
    twice = next((spec for spec in specs if list(specs).count(spec) > 1), None)
    if twice is not None:
        raise UsageError(f"--proposal {twice} is given twice: give it once")
    for one in ALONE:
        if one in specs and len(specs) > 1:
            raise UsageError(f"--proposal {one} stands alone: remove it, or the others")
        if one in specs:
            return []
    return [spec for spec in specs if spec not in (EXPLORE, LEARN)]


def _kept(folder: Path, number: int) -> Path:
    """Where the run in `folder` keeps what the part of that number found."""
    return folder / (DIRECTION if number == 0 else f"{DIRECTION}-{number + 1}")


def _records(
    folder: Path, specs: Sequence[str], *, explore: bool, known: bool = False
) -> list[dict[str, Any]] | None:
    """What the run in `folder` says of each part; None for a new run.

    `known` says that the target is: before, `explore` is what was asked for, and it may turn out
    that the target cannot be heated.
    """
    path = folder / PROPOSAL
    if not path.is_file():
        return None
    held = read_json(path)
    with understood(path):
        parts: list[dict[str, Any]] = held["parts"]
        own = [(part["spec"], part["id"], part["evidence"])[0] for part in parts]
        explored = bool(held["explore"])
    split = any((one in held["spec"]) != (one in specs) for one in (SPLITTING, LEARN))
    other = explored != explore if known else explored and not explore
    if own != unsafe_versions(specs) or other or split:
        given, asked = _words(held["spec"], explored), _words(specs, explore)
        raise ContractMismatchError(
            f"{folder} holds a run with --proposal {given}, not {asked}: "
            "use another --out, or the same options as before"
        )
    return parts


def _words(specs: Sequence[str], explore: bool) -> str:
    """Proposals as they were asked for."""
    return ", ".join(specs) + ("" if explore or specs[0] in ALONE else " --no-explore")
