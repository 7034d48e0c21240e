"""`tailbound demo`: the whole tour on the embedded model, offline, beside the exact truth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tailbound.cli import options as opt
from tailbound.core.outside import visible

_FOLDER, _QUICK_FOLDER = Path("tailbound-demo"), Path("tailbound-demo-quick")


def command(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help=f"Folder for both runs; runs already there are resumed. Default: {_FOLDER}, or "
            f"{_QUICK_FOLDER} with --quick.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run a smaller demo: about a minute on two cores.")
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Write the demo's prompts to this JSONL file and stop, for trying out `bound` "
            "and `risk`.",
        ),
    ] = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Audit the embedded demo model and compare with the exact truth (minutes, offline)."""
    if prompts is not None:
        _write_prompts(prompts)
        return
    from tailbound.cli.render import bound as render
    from tailbound.cli.render import risk as render_risk
    from tailbound.terminal.console import notice, step
    from tailbound.terminal.progress import LiveProgress

    notice(
        "the demo model is a toy trained to have known risks: it shows how the tool works and is "
        "no evidence about real models"
    )
    step("loading the demo model")
    from tailbound.demo.tour import (
        CONTRACT_WORDS,
        FULL,
        HOW_LIKELY,
        QUICK,
        WHEN,
        Tour,
        tour_document,
    )
    from tailbound.runs.layout import NEW_PROMPTS, REPORT

    size = QUICK if quick else FULL
    out = out or (_QUICK_FOLDER if quick else _FOLDER)
    with LiveProgress() as progress:
        tour = Tour(out, size=size, seed=seed, report=progress)
        step(
            f"1 of 2, how likely: the risk of {size.risks} prompts from {size.risk_draws} weighted "
            "draws each"
        )
        risks = tour.risks()
    if not as_json:
        render_risk.truth(risks)
    step(
        f"2 of 2, when: a bound for prompts never sampled, from {size.prompts:,} prompts "
        f"({'half a minute' if quick else 'about five minutes'})"
    )
    with LiveProgress() as progress:
        tour.report = progress
        bound = tour.bound()
    report = _report(out / HOW_LIKELY, out / WHEN, file=out / f"{REPORT}.html")
    if as_json:
        document = tour_document(bound, risks)
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
        return
    render.bound(bound.result, subject=f"the demo model judged by demo, {CONTRACT_WORDS}")
    render.truth(bound)
    render.console().print(visible(f"report: {report}"), soft_wrap=True)
    render.next_step(f"tailbound predict {out / WHEN} {out / NEW_PROMPTS}")


def _report(*runs: Path, file: Path) -> str:
    """One page about both runs."""
    from tailbound.workflows.report.command import report_command

    return report_command(runs, {"out": file}).path


def _write_prompts(path: Path) -> None:
    """The demo's prompts as a file, and the commands that use it."""
    from tailbound.cli.render import bound as render
    from tailbound.demo.files import default_prompts
    from tailbound.demo.tour import FULL, prompt_lines
    from tailbound.errors import UsageError
    from tailbound.storage.files import write_atomically

    text = prompt_lines(default_prompts(FULL.prompts))
    if path.is_dir():
        raise UsageError(f"--prompts {path} is a folder: name a file, such as demo.jsonl")
    if path.exists() and path.read_bytes() != text.encode():
        raise UsageError(f"--prompts {path} exists and holds something else: name a new file")
    write_atomically(path, text)
    print(visible(f"{FULL.prompts:,} prompts written to {path}"), file=sys.stderr)
    common = "--target demo --judge demo"
    render.next_step(f"tailbound bound {path} {common} --limit 400 --budget 30 --out runs/when")
    render.next_step(f"tailbound risk {path} {common} --limit 5 --out runs/how-likely")
