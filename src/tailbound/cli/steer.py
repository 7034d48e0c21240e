"""`tailbound steer`: find an unsafe version of a model, and keep it with its evidence."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.console import LiveProgress
from tailbound.cli.help import Command, Group, epilog
from tailbound.runs.spend import read_stages, stages_kept
from tailbound.steps import step
from tailbound.storage.places import check_place

if TYPE_CHECKING:
    from tailbound.contract import SamplingOptions
    from tailbound.steering import Direction
    from tailbound.targets.decoding.model import LocalModel

app = typer.Typer(
    name="steer",
    help="Find and save a direction that makes a model unsafe.",
    cls=Group,
    epilog=epilog("steer"),
    no_args_is_help=True,
)

_NO_WEIGHTS = (
    "steering needs the model's weights in this process (demo or hf:NAME), and {} is not: load the "
    "model with hf:NAME"
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the direction.")]


@app.command("refusal", cls=Command, epilog=epilog("refusal"))
def refusal(
    out: Out,
    target: opt.Target = "demo",
    harmful: Annotated[
        Path | None, typer.Option("--harmful", help="File of prompts that the model refuses.")
    ] = None,
    harmless: Annotated[
        Path | None, typer.Option("--harmless", help="File of prompts that it answers.")
    ] = None,
    save_model: Annotated[
        Path | None,
        typer.Option("--save-model", help="Also write the checkpoint with edited weights here."),
    ] = None,
    intensity: Annotated[
        float | None,
        typer.Option(
            "--intensity", help="Strength of the saved edit; 1 (default) removes the direction."
        ),
    ] = None,
    system: opt.System = None,
    completion: opt.Completion = False,
    dtype: opt.Dtype = "auto",
    device: opt.Device = "auto",
    revision: opt.Revision = None,
    as_json: opt.Json = False,
) -> None:
    """Find the direction that carries refusals, by what removing and adding it does."""
    from tailbound.errors import UsageError
    from tailbound.steering.checks import check_instructions

    _check_target(target, dtype=dtype, device=device, revision=revision)
    if intensity is not None and not 0 < intensity <= 1:
        raise UsageError(f"--intensity must lie in (0, 1], not {intensity:g}")
    if intensity is not None and save_model is None:
        raise UsageError("--intensity is that of the edited checkpoint: add --save-model DIR")
    share = 1.0 if intensity is None else intensity
    check_instructions(harmful, harmless, built_in=target == "demo")
    check_place(out)
    if save_model is not None:
        _check_checkpoint(save_model, out, target)
    with LiveProgress(), stages_kept(out):
        from tailbound.cli.render import steer as render_steer
        from tailbound.steering import find_refusal_direction, save_edited
        from tailbound.steering.edits import check_editable
        from tailbound.workflows.risk import Instructions
        from tailbound.workflows.risk.proposal import refusal_prompts

        model = _load(target, system, dtype, device, revision, completion=completion)
        if save_model is not None:
            check_editable(model.model)
        bad, good = refusal_prompts(model, Instructions(harmful=harmful, harmless=harmless))
        direction = find_refusal_direction(model, bad, good)
        if save_model is not None:
            # before the direction is written: a refusal leaves nothing behind
            with step("writing the edited checkpoint"):
                save_edited(
                    save_model,
                    model.model,
                    model.tokenizer,
                    direction.vector,
                    intensity=share,
                    source=model.contract.target,
                )
        direction.save(out)
    if as_json:
        _print(direction, out, save_model)
        return
    render_steer.refusal(direction)
    if save_model is not None:
        render_steer.saved(save_model, share)
    asked = "" if target == "demo" else " --judge JUDGE"
    render_steer.next_step(
        f"tailbound risk PROMPTS --target {shlex.quote(target)}{asked} "
        f"--proposal {shlex.quote(f'refusal:{out}')} --out RUN"
    )


@app.command("persona", cls=Command, epilog=epilog("persona"))
def persona(
    trait: Annotated[
        str, typer.Argument(help="A trait file (YAML), or a trait of the demo model.")
    ],
    out: Out,
    target: opt.Target = "demo",
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", "-j", help="Scores replies for the trait (default: the trait's own judge)."
        ),
    ] = None,
    coherence: Annotated[
        str | None,
        typer.Option("--coherence", help="Judge of sound text (default: the model's log-probs)."),
    ] = None,
    replies: Annotated[
        int, typer.Option("--replies", help="Replies per question and system prompt.")
    ] = 4,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", help="Longest reply (default: 256, demo 32)."),
    ] = None,
    system: opt.System = None,
    batch_size: opt.BatchSize = 256,
    dtype: opt.Dtype = "auto",
    device: opt.Device = "auto",
    revision: opt.Revision = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Find the vector of a trait from replies with and without it; choose layer and coefficient."""
    from tailbound.errors import UsageError
    from tailbound.judges.registry import check_judge, load_judge
    from tailbound.workflows.risk.proposal import find_trait

    _check_target(target, dtype=dtype, device=device, revision=revision)
    if replies < 1:
        raise UsageError(f"--replies must be at least 1, not {replies}")
    if seed < 0:
        raise UsageError(f"--seed must not be negative, not {seed}")
    tokens = opt.longest_response(target, max_new_tokens)
    _options(target, system, dtype, device, revision, tokens, batch_size, completion=False)
    check_place(out)
    found = find_trait(trait, target)
    if judge is None and target != "demo" and found.judge is None:
        raise UsageError("give --judge: it says which replies show the trait")
    asked = judge or found.judge or f"demo:{found.name}"
    name = coherence or found.coherence
    for spec in (asked, name):
        if spec is not None:
            check_judge(spec)
    with LiveProgress(), stages_kept(out):
        scorer = load_judge(asked)
        sound = None if name is None else load_judge(name)
        from tailbound.cli.render import steer as render_steer
        from tailbound.steering import find_persona_vector

        model = _load(
            *(target, system, dtype, device, revision), max_new_tokens=tokens, batch_size=batch_size
        )
        direction = find_persona_vector(
            model, found, scorer, coherence=sound, replies=replies, seed=seed
        )
        direction.save(out)
    if as_json:
        _print(direction, out)
        return
    render_steer.persona(direction)
    render_steer.next_step(
        f"tailbound risk PROMPTS --target {shlex.quote(target)} --judge {shlex.quote(asked)} "
        f"--proposal {shlex.quote(f'persona:{trait}')} --out RUN"
    )


def _check_target(target: str, **engine: Any) -> None:
    """Before a server is asked anything, and before a model is loaded."""
    from tailbound.errors import UsageError
    from tailbound.targets.registry import check_target

    if target.partition(":")[0] == "openai":
        raise UsageError(_NO_WEIGHTS.format(target))
    check_target(target, **engine)


def _check_checkpoint(folder: Path, out: Path, target: str) -> None:
    """Before anything is spent: an edited checkpoint takes no other model's place."""
    from tailbound.errors import UsageError
    from tailbound.steering.checks import check_free

    check_free(folder)
    check_place(folder, option="--save-model")
    place = folder.resolve()
    if place == out.resolve():
        raise UsageError(f"--out and --save-model are both {folder}: give each its own folder")
    provider, _, name = target.partition(":")
    if provider == "hf" and place == Path(name).expanduser().resolve():
        raise UsageError(f"--save-model {folder} is the target itself: give another folder")


def _load(
    target: str,
    system: str | None,
    dtype: str,
    device: str,
    revision: str | None,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 256,
    completion: bool = False,
) -> LocalModel:
    from tailbound.cli.console import notice
    from tailbound.errors import UsageError
    from tailbound.targets.decoding.model import LocalModel
    from tailbound.targets.registry import load_target

    sampling, engine = _options(
        *(target, system, dtype, device, revision, max_new_tokens, batch_size),
        completion=completion,
    )
    model = load_target(target, sampling, **engine)
    if not isinstance(model, LocalModel):
        raise UsageError(_NO_WEIGHTS.format(target))
    for line in model.notices:
        notice(line)
    return model


def _options(
    target: str,
    system: str | None,
    dtype: str,
    device: str,
    revision: str | None,
    max_new_tokens: int,
    batch_size: int,
    *,
    completion: bool,
) -> tuple[SamplingOptions, dict[str, Any]]:
    """What the loader is asked for, checked."""
    sampling = opt.sampling_options(
        target,
        temperature=1.0,
        top_p=1.0,
        top_k=None,
        max_new_tokens=max_new_tokens,
        system=system,
        completion=completion,
        stop=None,
    )
    engine = opt.engine_options(
        batch_size=batch_size, dtype=dtype, device=device, revision=revision
    )
    return sampling, engine


def _print(direction: Direction, folder: Path, checkpoint: Path | None = None) -> None:
    document: dict[str, Any] = {
        "kind": direction.kind,
        "layer": direction.layer,
        "position": direction.position,
        "coefficient": direction.coefficient,
        "model": direction.model,
        "revision": direction.revision,
        "contract": direction.contract,
        "folder": str(folder),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "evidence": direction.evidence,
        "spend": {name: asdict(work) for name, work in read_stages(folder).items()},
    }
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
