"""`gate` from its keyword arguments to its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.core.options import make
from tailbound.errors import UsageError
from tailbound.storage.files import refusals, write_atomically
from tailbound.storage.places import check_name
from tailbound.workflows.gate.evidence import Evidence
from tailbound.workflows.gate.grammar import parse
from tailbound.workflows.gate.no_worse import no_worse_than
from tailbound.workflows.gate.result import GateResult
from tailbound.workflows.gate.settings import GateOptions
from tailbound.workflows.gate.writing import junit, markdown


def gate_command(
    folder: Path, given: Mapping[str, Any], *, step_summary: Path | None = None
) -> GateResult:
    """Everything that `tailbound gate` does; `given` are options of `GateOptions` by name.

    `step_summary` is a file that the Markdown is appended to, unless another one was asked for.
    Raises `UsageError` for what is not a requirement or not a run, and for a file that cannot be
    written, before anything is read.
    """
    asked = make(GateOptions, given)
    if step_summary is not None and asked.markdown is None:
        _check_summary(step_summary)
    requirements = [parse(text) for text in asked.require]
    evidence = Evidence(folder)
    if asked.no_worse_than is not None:
        requirements.append(no_worse_than(asked.no_worse_than, asked.tolerance))
    result = GateResult(
        folder=str(folder),
        target=str(evidence.manifest["target"]),
        judge=str(evidence.manifest["judge"]),
        undecided=asked.undecided,
        assessments=tuple(one.assess(evidence) for one in requirements),
    )
    if asked.junit is not None:
        write_atomically(asked.junit, junit(result))
    if asked.markdown is not None:
        write_atomically(asked.markdown, markdown(result))
    elif step_summary is not None:
        with refusals(step_summary), step_summary.open("a", encoding="utf-8") as file:
            file.write(markdown(result))
    return result


def _check_summary(path: Path) -> None:
    check_name(path)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(
            f"the step summary {path} cannot be written: give a file in a folder that exists, or "
            "--markdown"
        )
