"""`tailbound doctor`: what this installation can do, and how to install what is missing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

from tailbound.cli import options as opt
from tailbound.terminal.console import say

if TYPE_CHECKING:
    from tailbound.workflows.doctor import Diagnosis, Part

_FEATURES = {
    "": "statistics, run folders, summaries, judges by pattern",
    "hf": "targets hf: and demo, classifier: and guard: judges",
    "lora": "proposals from adapters",
    "endpoint": "targets and judges behind a server",
    "data": "prompt sets from the hub",
    "embeddings": "predictors that read embeddings",
    "tfidf": "predictors that read words (served models)",
    "import": "Inspect logs",
}


def command(as_json: opt.Json = False) -> None:
    """Show versions, optional parts, devices and disk, and how to install what is missing."""
    from tailbound.workflows.doctor import diagnose

    found = diagnose()
    if as_json:
        sys.stdout.write(json.dumps(found.to_dict(), indent=2) + "\n")
    else:
        _print(found)
    if not found.works:
        raise typer.Exit(1)


def _print(found: Diagnosis) -> None:
    memory = "" if found.memory is None else f", {found.memory / 2**30:.0f} GiB of memory"
    say(f"tailbound {found.tailbound}, Python {found.python}, {found.platform}")
    say(f"{found.cores} cores{memory}, {found.disk_free / 2**30:.0f} GiB free in {found.folder}")
    say(f"devices: {', '.join(found.devices) or 'unknown without torch'}")
    for name, value in found.environment.items():
        say(f"{name} = {value}")
    say(f"keys set: {', '.join(found.keys) or 'none'}")
    say()
    for part in found.parts:
        mark = "ok     " if part.works else "missing"
        say(f"{mark} {part.extra or 'core':<11} {_FEATURES.get(part.extra, '')}")
        if not part.works:
            say(f"        {_lacks(part)}: {part.cure}")
    for problem in found.problems:
        say(f"problem: {problem}")


def _lacks(part: Part) -> str:
    return ", ".join(
        f"{one.package} {one.installed} is not {one.wanted}"
        if one.installed
        else f"no {one.package}"
        for one in part.requirements
        if not one.fits
    )
