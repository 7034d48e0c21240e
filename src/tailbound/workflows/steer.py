"""`steer` from its keyword arguments to a direction on disk, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.options import make
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.importance_sampling.cross_entropy import INTENSITIES
from tailbound.runs.spend import read_stages, stages_kept
from tailbound.steering.checks import ADAPTERS, adapter_folder, check_free, check_instructions
from tailbound.steering.options import PersonaOptions, RefusalOptions
from tailbound.storage.places import check_place
from tailbound.targets import WhiteBox
from tailbound.targets.options import EngineOptions
from tailbound.targets.registry import check_target, load_target, provider
from tailbound.workflows.opening import (
    JudgeSource,
    TargetSource,
    judge_of,
    report,
    sampling_options,
)

if TYPE_CHECKING:
    from tailbound.steering import Direction

LONGEST = 32
"""Tokens of the replies that a refusal direction is tried on."""

_NO_WEIGHTS = (
    "steering needs the model's weights in this process (demo or hf:NAME), and {} is not: load the "
    "model with hf:NAME"
)


def refusal_command(out: Path, *, target: TargetSource, given: Mapping[str, Any]) -> Direction:
    """Find the direction that carries refusals, save it in `out`, and the edited checkpoint."""
    given = {"max_new_tokens": LONGEST, **given}
    if isinstance(target, str):
        _check_target(target, given)
    asked = make(RefusalOptions, given)
    examples = provider(target).example_instructions
    check_instructions(asked.harmful, asked.harmless, built_in=examples is not None)
    check_place(out)
    if asked.save_model is not None:
        _check_checkpoint(asked.save_model, out, target)
    exported = out / ADAPTERS
    if asked.export is not None:
        for level in INTENSITIES:
            check_free(adapter_folder(exported, level))
    with stages_kept(out):
        from tailbound.steering import find_refusal_direction, save_edited
        from tailbound.steering.edits import check_editable
        from tailbound.steering.lora import save_adapters
        from tailbound.workflows.risk.proposals import Instructions
        from tailbound.workflows.risk.proposals.refusal import refusal_prompts

        model = _load(target, given)
        if asked.save_model is not None or asked.export is not None:
            check_editable(model.model)
        files = Instructions(harmful=asked.harmful, harmless=asked.harmless)
        direction = find_refusal_direction(
            model, *refusal_prompts(model, files), layer=asked.layer, position=asked.position
        )
        if asked.save_model is not None:
            # before the direction is written: a refusal leaves nothing behind
            with step("writing the edited checkpoint"):
                save_edited(
                    asked.save_model,
                    model.model,
                    model.tokenizer,
                    direction.vector,
                    intensity=asked.share,
                    source=model.contract.target,
                )
        if asked.export is not None:
            with step("writing the adapters"):
                save_adapters(
                    exported,
                    model.model,
                    direction.vector,
                    intensities=INTENSITIES,
                    source=model.contract.target,
                    revision=model.contract.revision,
                )
        direction.save(out)
    return direction


def persona_command(
    trait: str,
    out: Path,
    *,
    target: TargetSource,
    judge: JudgeSource | None,
    given: Mapping[str, Any],
) -> tuple[Direction, str]:
    """Find the vector of a trait and save it in `out`; with it, the name of the judge."""
    from tailbound.judges.registry import check_judge, load_judge
    from tailbound.workflows.risk.proposals.persona import find_trait

    if isinstance(target, str):
        _check_target(target, given)
    asked = make(PersonaOptions, given)
    if isinstance(target, str):
        sampling_options(target, given)
    make(EngineOptions, given)
    check_place(out)
    found = find_trait(trait, target)
    scorer_source = judge or found.judge
    if scorer_source is None:
        raise UsageError("give --judge: it says which replies show the trait")
    name = asked.coherence or found.coherence
    for spec in (scorer_source, name):
        if isinstance(spec, str):
            check_judge(spec)
    with stages_kept(out):
        scorer = judge_of(scorer_source)
        sound = None if name is None else load_judge(name)
        from tailbound.steering import find_persona_vector

        model = _load(target, given)
        direction = find_persona_vector(
            model, found, scorer, coherence=sound, replies=asked.replies, seed=asked.seed
        )
        direction.save(out)
    return direction, scorer_source if isinstance(scorer_source, str) else scorer.id


def direction_document(
    direction: Direction,
    folder: Path,
    checkpoint: Path | None = None,
    adapters: Path | None = None,
) -> dict[str, Any]:
    """A saved direction with its evidence and its cost as plain values, ready for JSON."""
    return {
        "kind": direction.kind,
        "layer": direction.layer,
        "position": direction.position,
        "coefficient": direction.coefficient,
        "model": direction.model,
        "revision": direction.revision,
        "contract": direction.contract,
        "folder": str(folder),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "adapters": None if adapters is None else str(adapters),
        "evidence": direction.evidence,
        "spend": {name: asdict(work) for name, work in read_stages(folder).items()},
    }


def _name(target: TargetSource) -> str:
    return target if isinstance(target, str) else target.contract.target


def _engine(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the loader is asked for, as far as it was given."""
    return asdict(make(EngineOptions, given))


def _check_target(target: str, given: Mapping[str, Any]) -> None:
    """Before a server is asked anything, and before a model is loaded."""
    if not provider(target).white_box:
        raise UsageError(_NO_WEIGHTS.format(target))
    engine = _engine(given)
    del engine["batch_size"]
    check_target(target, **engine)


def _check_checkpoint(folder: Path, out: Path, target: TargetSource) -> None:
    """Before anything is spent: an edited checkpoint takes no other model's place."""
    check_free(folder)
    check_place(folder, option="--save-model")
    place = folder.resolve()
    if place == out.resolve():
        raise UsageError(f"--out and --save-model are both {folder}: give each its own folder")
    kind, _, name = _name(target).partition("?")[0].partition(":")
    if kind == "hf" and place == Path(name).expanduser().resolve():
        raise UsageError(f"--save-model {folder} is the target itself: give another folder")


def _load(target: TargetSource, given: Mapping[str, Any]) -> WhiteBox:
    if isinstance(target, str):
        model = load_target(target, sampling_options(target, given), **_engine(given))
    else:
        model = target
    if not isinstance(model, WhiteBox):
        raise UsageError(_NO_WEIGHTS.format(_name(target)))
    report(*model.notices)
    return model
