"""`tailbound demo`: the whole tour on the embedded model, offline, beside the exact truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tailbound.cli import options as opt

_FOLDER = Path("tailbound-demo")


def command(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Run folder; an old run goes on.")
    ] = _FOLDER,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Bounds and risks of the embedded demo model beside the exact truth (minutes, offline)."""
    from tailbound.cli import render, render_risk
    from tailbound.cli.console import LiveProgress, notice
    from tailbound.demo.tour import CONTRACT_WORDS, tour

    notice(
        "the demo model is a toy trained to have known risks: it shows how the tool works and is "
        "no evidence about real models"
    )
    with LiveProgress() as progress:
        result = tour(out, seed=seed, report=progress)
    if as_json:
        sys.stdout.write(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
        return
    render.bound(result.bound, subject=f"the demo model judged by demo, {CONTRACT_WORDS}")
    render.truth(result)
    render_risk.truth(result.risks)
    render.next_step(f"tailbound predict {out} {out / 'new-prompts.jsonl'}")
