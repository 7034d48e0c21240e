"""From `--proposal` to variants: which unsafe version of the target speaks, and why.

What was found stands in DIR/proposal.json (and DIR/direction/ for a direction), so that a resume
uses the same and another proposal is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.errors import ContractMismatchError, UsageError
from tailbound.extras import require
from tailbound.prompt import Prompt
from tailbound.prompts import read_prompts
from tailbound.runs.layout import DIRECTION, PROPOSAL
from tailbound.runs.spend import stages_kept
from tailbound.steering.checks import NOTE_FILE, check_instructions
from tailbound.steps import step
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json

if TYPE_CHECKING:
    from tailbound.judges import Judge
    from tailbound.steering import Direction, Trait
    from tailbound.targets import Target
    from tailbound.targets.decoding.model import LocalModel
    from tailbound.targets.decoding.variant import ModelVariant

KINDS = ("refusal", "persona", "model", "lora", "prompt", "none")
_NAMED = {"persona": "NAME", "model": "NAME", "lora": "PATH", "prompt": "FILE"}
SCHEMA = 1
_BY_HAND = ", or --proposal refusal:DIR with a direction saved by tailbound steer"
TOO_FEW = (
    "--proposal-family mix-switch tunes on a tenth of the prompts and leaves them out: give at "
    "least 2 prompts, or use the ladder"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposal:
    """An unsafe version of `target`, or none (plain Monte Carlo).

    `variant(intensity)` makes a variant of it; only a `steerable` one has intensities other than 1.
    `id` names it in the ledger, `evidence` says why it was chosen.
    """

    spec: str
    id: str
    target: Target
    variant: Callable[[float], ModelVariant] | None = None
    steerable: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What a search for directions may use: files of prompts, None for the demo's own."""

    harmful: Path | None = None
    harmless: Path | None = None


def parse(spec: str) -> tuple[str, str]:
    """Kind and name of a `--proposal`, the name "" where it has none; nothing is read.

    Raises `UsageError` for a kind that does not exist and for a name that is missing.
    """
    kind, colon, name = spec.partition(":")
    if kind not in KINDS or (kind == "none" and colon) or (colon and not name):
        raise UsageError(
            f"unknown proposal {spec!r}: use refusal, refusal:DIR, persona:NAME, model:NAME, "
            "lora:PATH, prompt:FILE or none"
        )
    if kind not in ("none", "refusal") and not name:
        raise UsageError(f"--proposal {kind} needs a name: {kind}:{_NAMED[kind]}")
    return kind, name


def check_proposal(
    spec: str,
    target: str,
    *,
    folder: Path,
    instructions: Instructions,
    family: str = "ladder",
    prompts: int | None = None,
) -> None:
    """Find what `make_proposal` would refuse without a model; nothing is loaded or written.

    `target` is its spec and `prompts` their number. Raises `UsageError` for options that do not go
    together, files that are missing or cannot be read, and extras that are not installed, and
    `ContractMismatchError` where the run in `folder` uses another proposal.
    """
    kind, name = parse(spec)
    harmful, harmless = instructions.harmful, instructions.harmless
    if kind != "none" and target.startswith("openai:"):
        raise UsageError(
            f"--proposal {kind} needs the target's weights in this process (hf: or demo): use "
            "--proposal none behind an endpoint"
        )
    if (harmful or harmless) and spec != "refusal":
        raise UsageError(
            f"--harmful and --harmless go with --proposal refusal, not {spec}: remove them"
        )
    if kind == "none" and family != "ladder":
        raise UsageError(
            f"--proposal-family {family} needs a proposal, and --proposal none has none: remove it"
        )
    if family == "mix-switch" and prompts is not None and prompts < 2:
        raise UsageError(TOO_FEW)
    record = _record(folder, spec)
    if kind == "refusal":
        if (folder / DIRECTION / NOTE_FILE).is_file():
            check_direction(folder / DIRECTION)
        elif name:
            check_direction(Path(name).expanduser())
        else:
            check_instructions(harmful, harmless, built_in=target == "demo", other=_BY_HAND)
    elif kind == "persona":
        find_trait(name, target)
        if record is not None and (folder / DIRECTION / NOTE_FILE).is_file():
            check_direction(folder / DIRECTION)
    elif kind == "prompt":
        _text(name)
    elif kind == "model":
        from tailbound.targets.huggingface import check

        check(name.removeprefix("hf:"))
    elif kind == "lora":
        from tailbound.huggingface.adapters import check_adapter

        check_adapter(Path(name).expanduser(), name)
        require("a LoRA adapter as proposal", "lora")


def check_direction(folder: Path) -> None:
    """Raise `UsageError` where `folder` holds no direction that can be read."""
    from tailbound.steering.checks import read_note

    read_note(folder)


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
    with stages_kept(folder):
        return _make(spec, target, judge, prompts, folder, instructions or Instructions(), seed)


def _make(
    spec: str,
    target: Target,
    judge: Judge,
    prompts: Sequence[Prompt],
    folder: Path,
    instructions: Instructions,
    seed: int,
) -> Proposal:
    kind, name = parse(spec)
    record = _record(folder, spec)
    if kind == "none":
        made = Proposal(spec=spec, id="none", target=target)
    else:
        local = _local(target, spec)
        if kind == "refusal":
            made = _refusal(spec, name, local, folder, instructions)
        elif kind == "persona":
            made = _persona(spec, name, local, judge, prompts, folder, record, seed)
        elif kind == "prompt":
            made = _instructed(spec, local, _text(name), {})
        elif kind == "model":
            with step(f"loading {name}"):
                made = _other(spec, local, _checkpoint(local, name))
        else:
            with step(f"loading the adapter {name}"):
                made = _other(spec, local, _adapted(local, name))
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


def _local(target: Target, spec: str) -> LocalModel:
    from tailbound.targets.decoding.model import LocalModel

    if not isinstance(target, LocalModel):
        raise UsageError(
            f"--proposal {spec} needs the target's weights in this process (hf: or demo), and "
            f"{target.contract.target} is not: use --proposal none"
        )
    return target


def _refusal(
    spec: str, name: str, target: LocalModel, folder: Path, instructions: Instructions
) -> Proposal:
    from tailbound.steering import Direction, find_refusal_direction

    own = folder / DIRECTION
    if (own / NOTE_FILE).is_file():  # written last
        direction = Direction.load(own)
    elif name:
        direction = Direction.load(Path(name).expanduser())
        direction.save(own)
    else:
        harmful, harmless = refusal_prompts(target, instructions)
        direction = find_refusal_direction(target, harmful, harmless)
        direction.save(own)
    return _along(spec, target, direction)


def refusal_prompts(
    target: LocalModel, instructions: Instructions
) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Harmful and harmless prompts from files; the demo model's own where none are given."""
    if instructions.harmful and instructions.harmless:
        return (
            read_prompts(instructions.harmful).prompts,
            read_prompts(instructions.harmless).prompts,
        )
    check_instructions(
        instructions.harmful,
        instructions.harmless,
        built_in=target.contract.target == "demo",
        other=_BY_HAND,
    )
    from tailbound.demo.steering import demo_refusal_prompts

    return demo_refusal_prompts()


def _along(spec: str, target: LocalModel, direction: Direction) -> Proposal:
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


def _instructed(spec: str, target: LocalModel, system: str, evidence: dict[str, Any]) -> Proposal:
    import hashlib

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
        raise UsageError(
            f"the system prompt {name or '(no file)'} cannot be read: {error}"
        ) from error
    if not text:
        raise UsageError(f"the system prompt {name} is empty")
    return text


def _other(spec: str, target: LocalModel, model: LocalModel) -> Proposal:
    from tailbound.targets.decoding.proposals import other_model

    contract = model.contract
    return Proposal(
        spec=spec,
        id=f"{contract.target}@{contract.revision or 'unknown'}",
        target=target,
        variant=lambda intensity: other_model(target, model, name=contract.target),
        evidence={"kind": spec.partition(":")[0], "revision": contract.revision},
    )


def _checkpoint(target: LocalModel, name: str) -> LocalModel:
    from tailbound.targets.huggingface import load

    return load(
        name.removeprefix("hf:"),
        target.options,
        batch_size=target.batch_size,
        dtype=target.contract.precision,
        device=str(target.network.device),
    )


def _adapted(target: LocalModel, name: str) -> LocalModel:
    """The target with a LoRA adapter merged into a copy of its weights."""
    from tailbound.huggingface.adapters import merged
    from tailbound.huggingface.fingerprint import folder_revision
    from tailbound.targets.decoding.model import LocalModel

    folder = Path(name).expanduser()
    with target.network.bare() as model:
        adapted = merged(model, folder, name=name)
    return LocalModel(
        adapted,
        target.tokenizer,
        target.options,
        name=f"lora:{folder.resolve().name}",
        revision=folder_revision(folder),
        batch_size=target.batch_size,
    )


def _persona(
    spec: str,
    name: str,
    target: LocalModel,
    judge: Judge,
    prompts: Sequence[Prompt],
    folder: Path,
    record: dict[str, Any] | None,
    seed: int,
) -> Proposal:
    """The trait's vector or one of its system prompts: a pilot chooses, and the record decides."""
    from tailbound.steering import Direction, find_persona_vector
    from tailbound.workflows.risk.select_proposal import select_proposal

    trait = find_trait(name, target.contract.target)
    own = folder / DIRECTION
    candidates = [
        _instructed(spec, target, system, {"kind": "trait system prompt"})
        for system in trait.positive
    ]
    notices: tuple[str, ...] = ()
    if (own / NOTE_FILE).is_file():  # written last
        candidates.append(_along(spec, target, Direction.load(own)))
    elif record is None:
        try:
            direction = find_persona_vector(target, trait, judge, seed=seed)
        except UsageError as error:
            notices = (f"no persona vector: {error}",)
        else:
            direction.save(own)
            candidates.append(_along(spec, target, direction))
    if record is not None:
        for candidate in candidates:
            if candidate.id == record["id"]:
                return _with(candidate, record["evidence"], ())
        raise UsageError(
            f"the trait {name} changed since the run in {folder} began: use another --out"
        )
    best, evidence = select_proposal(candidates, judge, prompts, seed=seed)
    return _with(best, {**best.evidence, "pilot": evidence}, notices)


def _with(proposal: Proposal, evidence: dict[str, Any], notices: tuple[str, ...]) -> Proposal:
    from dataclasses import replace

    return replace(proposal, evidence=evidence, notices=(*proposal.notices, *notices))


def find_trait(name: str, target: str) -> Trait:
    """The trait in the file `name`, or a built-in one of the target `demo`."""
    from tailbound.steering.traits import Trait

    if Path(name).expanduser().is_file():
        return Trait.read(Path(name).expanduser())
    if target == "demo":
        from tailbound.demo.steering import demo_trait

        return demo_trait(name)
    raise UsageError(
        f"no trait file {name!r}: give YAML with name, positive, negative and questions"
    )
