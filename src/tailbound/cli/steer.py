"""`tailbound steer`: find an unsafe version of a model, and keep it with its evidence."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.help import Command, Group
from tailbound.cli.say import json_document
from tailbound.core.contract import SamplingOptions
from tailbound.core.options import Only
from tailbound.steering.options import PersonaOptions, RefusalOptions
from tailbound.targets.options import EngineOptions

app = typer.Typer(
    name="steer",
    help="Find and save a direction that makes a model unsafe.",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the direction.")
]


@app.command("refusal", cls=Command)
@declares(
    RefusalOptions,
    Only(SamplingOptions, ("system", "completion")),
    Only(EngineOptions, ("dtype", "device", "revision")),
)
def refusal(
    out: Out,
    target: opt.Target = "demo",
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Find the direction in the residual stream that makes a model refuse."""
    from tailbound.steering.checks import ADAPTERS
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.steer import direction_document, refusal_command

    with LiveProgress():
        direction = refusal_command(out, target=target, given=options)
    checkpoint = options["save_model"]
    adapters = None if options["export"] is None else out / ADAPTERS
    if as_json:
        json_document(direction_document(direction, out, checkpoint, adapters))
        return
    from tailbound.cli.render import steer as render_steer

    render_steer.refusal(direction)
    if checkpoint is not None:
        render_steer.saved(
            checkpoint, 1.0 if options["intensity"] is None else options["intensity"]
        )
    if adapters is not None:
        render_steer.exported(adapters)
    asked = "" if target == "demo" else " --judge JUDGE"
    render_steer.next_step(
        f"tailbound risk PROMPTS --target {shlex.quote(target)}{asked} "
        f"--proposal {shlex.quote(f'refusal:{out}')} --out RUN"
    )


@app.command("persona", cls=Command)
@declares(
    PersonaOptions,
    Only(SamplingOptions, ("system", "max_new_tokens")),
    EngineOptions,
)
def persona(
    trait: Annotated[
        str,
        typer.Argument(
            metavar="TRAIT", help="Trait file (YAML), or the name of a trait of the demo model."
        ),
    ],
    out: Out,
    target: opt.Target = "demo",
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            "-j",
            metavar="NAME",
            help="Judge that scores replies for the trait (default: the trait's own).",
        ),
    ] = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Find the vector of a trait by comparing replies with and without it."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.steer import direction_document, persona_command

    with LiveProgress():
        direction, scorer = persona_command(trait, out, target=target, judge=judge, given=options)
    if as_json:
        json_document(direction_document(direction, out))
        return
    from tailbound.cli.render import steer as render_steer

    render_steer.persona(direction)
    render_steer.next_step(
        f"tailbound risk PROMPTS --target {shlex.quote(target)} --judge {shlex.quote(scorer)} "
        f"--proposal {shlex.quote(f'persona:{trait}')} --out RUN"
    )
