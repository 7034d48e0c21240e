"""`tailbound sensitivity`: how much the wording of a query matters, and rewordings to find out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli import options as opt
from tailbound.cli.declared import declares, given_names
from tailbound.cli.say import json_document
from tailbound.core.options import Group, options_of
from tailbound.errors import UsageError
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.workflows.paraphrase.settings import GROUP, SAMPLING, ParaphraseOptions
from tailbound.workflows.sensitivity.settings import SensitivityOptions
from tailbound.workflows.settings import PromptOptions

_OF_PARAPHRASE: tuple[Group, ...] = (
    ParaphraseOptions,
    PromptOptions,
    SAMPLING,
    EngineOptions,
    EndpointOptions,
)


@declares(SensitivityOptions, *_OF_PARAPHRASE)
def command(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="Run folder with risk.json or summary.json, or a table (CSV, TSV, JSONL, JSON, "
            "Parquet): p, low, high, group, and where wanted id, resolved. With --paraphrase: the "
            "prompts to reword.",
        ),
    ],
    paraphrase: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Reword the prompts in SOURCE with this chat model and write them to --out, for "
            "tailbound risk.",
            rich_help_panel=GROUP,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="JSONL file for the rewordings.", rich_help_panel=GROUP),
    ] = None,
    as_json: opt.Json = False,
    **options: Any,
) -> None:
    """Say how much the wording of a query matters, from estimates of groups of rewordings.

    With --paraphrase, a chat model first writes the rewordings, and `tailbound risk` estimates
    them.
    """
    _check(paraphrase, out, given_names(context))
    if paraphrase is not None and out is not None:
        _paraphrase(source, out, paraphrase, options, as_json=as_json)
        return
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.sensitivity.command import sensitivity_command

    with LiveProgress():
        result = sensitivity_command(source, options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.sensitivity import sensitivity

    sensitivity(result)


def _check(paraphrase: str | None, out: Path | None, given: set[str]) -> None:
    """Raise `UsageError` for options of the other half of the command."""
    if paraphrase is not None:
        if out is None:
            raise UsageError("--paraphrase needs --out: a file such as wordings.jsonl")
        if "confidence" in given:
            raise UsageError("--confidence does not go with --paraphrase: remove it")
        return
    names = {one.name: one.flag for group in _OF_PARAPHRASE for one in options_of(group)}
    for name, flag in {"out": "--out", **names}.items():
        if name in given:
            raise UsageError(f"{flag} goes with --paraphrase TARGET alone: add that, or remove it")


def _paraphrase(
    source: Path, out: Path, target: str, options: dict[str, Any], *, as_json: bool
) -> None:
    from tailbound.terminal.progress import LiveProgress
    from tailbound.workflows.paraphrase.command import paraphrase_command

    with LiveProgress():
        result = paraphrase_command(str(source), out, target=target, given=options)
    if as_json:
        json_document(result.to_dict())
        return
    from tailbound.cli.render.paraphrase import paraphrased

    paraphrased(result)
