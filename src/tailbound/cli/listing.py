"""`tailbound targets` and `tailbound judges`: what is available."""

from __future__ import annotations

import json

import typer

from tailbound.cli.options import Json
from tailbound.core.outside import visible

_JUDGES = {
    "demo": "the deterministic judge of the demo model",
    "regex": "regex:PATTERN: unsafe where the pattern occurs in the response",
    "keywords": "keywords:FILE: unsafe where a phrase of the file occurs in the response",
    "classifier": "classifier:NAME?label=LABEL: a Hugging Face text classifier",
    "guard": "guard:NAME: Llama Guard, WildGuard and models that answer like them",
    "rubric": "rubric:FILE.yaml or rubric:strongreject: any target, asked with a rubric",
    "python": "python:package.module:function: your own function",
}


def targets(as_json: Json = False) -> None:
    """List the kinds of model that can be audited."""
    from tailbound.targets.registry import describe_targets

    _show(describe_targets(), as_json=as_json)


def judges(as_json: Json = False) -> None:
    """List the kinds of judge."""
    from tailbound.judges.registry import list_judges

    found = list_judges()
    _show(
        {name: _JUDGES.get(name, f"from {place}") for name, place in found.items()}, as_json=as_json
    )


def _show(rows: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    width = max(map(len, rows))
    for name, description in rows.items():
        typer.echo(visible(f"{name:<{width}}  {description}"))
