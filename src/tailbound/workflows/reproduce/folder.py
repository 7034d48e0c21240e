"""The folder of a study: the names of its files, and whether a study may begin or resume there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailbound.errors import ContractMismatchError, UsageError
from tailbound.storage.documents import read_json
from tailbound.storage.places import check_place

PLAN, STUDY, README = "plan.json", "study.json", "README.md"
RUNS = "runs"
"""The folder of the runs of a study."""
CELLS = "cells"
"""The folder of the cells of a study that draws from no model."""


def check_study_folder(out: Path) -> None:
    """Raise `UsageError` for a folder that holds other files and no study; nothing is written."""
    check_place(out)
    if not out.is_dir() or (out / PLAN).is_file():
        return
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise UsageError(f"{out} holds other files and no study: give a new folder as --out")


def check_plan(out: Path, plan: Mapping[str, Any]) -> None:
    """Raise `ContractMismatchError` where the folder holds a study with another plan.

    The plan is what may not change between two calls in one folder.
    """
    path = out / PLAN
    if not path.is_file():
        return
    held = read_json(path)
    for name, now in plan.items():
        if held.get(name) != now:
            shown = "other prompts" if name == "prompts" else f"{name} {held.get(name)!r}"
            asked = "" if name == "prompts" else f", not {now!r}"
            raise ContractMismatchError(
                f"{out} holds a study with {shown}{asked}: use another --out, or the same "
                "options as before"
            )
