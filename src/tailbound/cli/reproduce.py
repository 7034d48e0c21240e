"""`tailbound reproduce`: studies that anyone can run again, with tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares
from tailbound.cli.help import Command, Group
from tailbound.cli.say import json_document
from tailbound.core.contract import SamplingOptions
from tailbound.targets.options import EngineOptions
from tailbound.workflows.reproduce.realtoxicity.settings import (
    BOUND_OPTIONS,
    CompletionOptions,
    CompletionStudy,
)
from tailbound.workflows.reproduce.settings import (
    RISK_OPTIONS,
    ErrorStudy,
    StudyName,
    WeightedStudy,
)
from tailbound.workflows.reproduce.synthetic.settings import SyntheticStudy
from tailbound.workflows.risk.settings import ProposalOptions
from tailbound.workflows.settings import PromptOptions

app = typer.Typer(
    name="reproduce",
    help="Run a study of methods again: tables and figures beside the truth.",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_SHARED = (ProposalOptions, RISK_OPTIONS, PromptOptions, SamplingOptions, EngineOptions)

Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="FOLDER", help="Folder of the study; one already there is resumed."
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="PROMPTS",
        help="Prompt file, hf-dataset:ORG/NAME or the name of a public set (default: those of the "
        "demo model, of the trait, or strongreject).",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        "-j",
        metavar="NAME",
        help="What decides that a response is unsafe (default: demo, or that of the trait).",
    ),
]
Beginnings = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="PROMPTS",
        help="Prompt file or hf-dataset:ORG/NAME: beginnings of sentences (default: those of the "
        "demo model).",
    ),
]
Toxicity = Annotated[
    str | None,
    typer.Option(
        "--judge",
        "-j",
        metavar="NAME",
        help="What decides that a completion is unsafe (default, of the demo model alone: demo).",
    ),
]


@app.command("mc-vs-is", cls=Command)
@declares(ErrorStudy, *_SHARED)
def mc_vs_is(
    out: Out,
    prompts: Prompts = None,
    target: opt.Target = "demo",
    judge: Judge = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Relative error against draws and tokens: plain, published and ladder."""
    _run("mc-vs-is", out, prompts, target, judge, options, as_json=as_json)


@app.command("strongreject", cls=Command)
@declares(WeightedStudy, *_SHARED)
def strongreject(
    out: Out,
    prompts: Prompts = None,
    target: opt.Target = "demo",
    judge: Judge = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Prompts with an unsafe output among k draws: predicted and seen."""
    _run("strongreject", out, prompts, target, judge, options, as_json=as_json)


@app.command("persona", cls=Command)
@declares(WeightedStudy, *_SHARED)
def persona(
    out: Out,
    prompts: Prompts = None,
    target: opt.Target = "demo",
    judge: Judge = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """A trait by few weighted draws, beside many plain ones."""
    _run("persona", out, prompts, target, judge, options, as_json=as_json)


@app.command("synthetic", cls=Command)
@declares(SyntheticStudy)
def synthetic(out: Out, as_json: opt.Json = False, **options: Any) -> None:
    """Bounds by five designs on a population of known risks: coverage, length, cost."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.reproduce.synthetic.command import run_synthetic

    with LiveProgress():
        result = run_synthetic(out, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.reproduce import synthetic as show

    show(result, out)


@app.command("realtoxicity", cls=Command)
@declares(CompletionStudy, BOUND_OPTIONS, PromptOptions, CompletionOptions, EngineOptions)
def realtoxicity(
    out: Out,
    prompts: Beginnings = None,
    target: opt.Target = "demo",
    judge: Toxicity = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Bounds on completions at several budgets, beside the uncalibrated ones."""
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.reproduce.realtoxicity.command import (
        CompletionRequest,
        run_completions,
    )

    request = CompletionRequest(out=out, prompts=prompts, target=target, judge=judge, given=options)
    with LiveProgress() as progress:
        result = run_completions(request, progress=progress)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.reproduce import completions as show

    show(result, out)


def _run(
    study: StudyName,
    out: Path,
    prompts: str | None,
    target: str,
    judge: str | None,
    options: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.reproduce.command import StudyRequest, run_study

    request = StudyRequest(
        study=study, out=out, prompts=prompts, target=target, judge=judge, given=options
    )
    with LiveProgress() as progress:
        result = run_study(request, progress=progress)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.reproduce import study as show

    show(result, out)
