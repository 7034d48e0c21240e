"""What can be found wrong with the files of a search for directions before a model is loaded.

Nothing here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts import read_prompts
from tailbound.storage.documents import read_json

SCHEMA_VERSION = 1
VECTOR_FILE, NOTE_FILE = "direction.safetensors", "direction.json"
NOTED = ("kind", "layer", "position", "coefficient", "model", "revision", "contract", "evidence")
EDIT_NOTE = "tailbound-edit.json"
"""The file that tells an edited checkpoint, or an exported adapter, from any other."""
ADAPTERS = "lora"
"""Where adapters lie in the folder of their direction."""
FEW = 16
"""Prompts of a kind below which a warning is due."""
ALIKE = "takes what the model refuses, --harmless what it answers"


def adapter_folder(folder: Path, intensity: float) -> Path:
    """Where in `folder` the adapter of that intensity lies.

    >>> adapter_folder(Path("lora"), 0.5).name
    'ablate-0.5'
    """
    return folder / f"ablate-{intensity:g}"


def check_free(folder: Path) -> None:
    """Raise `UsageError` where an edit would be written over anything but an earlier edit."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / EDIT_NOTE).is_file():
        raise UsageError(
            f"{folder} is not empty: an edited checkpoint is written to a new folder, or over an "
            "earlier edit"
        )


def check_enough(kind: str, prompts: Sequence[Prompt]) -> None:
    """Raise `UsageError` for fewer than the two prompts of a kind that a search needs."""
    if len(prompts) < 2:
        raise UsageError(
            f"the refusal direction needs at least 2 {kind} prompts, not {len(prompts)} "
            f"({FEW} or more are better): add some to --{kind}"
        )


def check_instructions(
    harmful: Path | None, harmless: Path | None, *, built_in: bool, other: str = ""
) -> None:
    """Both files with two prompts or more each, not all the same; or none with `built_in` ones.

    `other` names another way out, for the message.
    """
    if (harmful is None) != (harmless is None) or (harmful is None and not built_in):
        raise UsageError(
            "the refusal direction is found from two files of prompts: give --harmful FILE and "
            f"--harmless FILE (a handful of each will do){other}"
        )
    if harmful is None or harmless is None:
        return
    bad, good = read_prompts(harmful).prompts, read_prompts(harmless).prompts
    check_enough("harmful", bad)
    check_enough("harmless", good)
    if {prompt.messages for prompt in bad} == {prompt.messages for prompt in good}:
        raise UsageError(f"harmful and harmless prompts are the same: --harmful {ALIKE}")


def read_note(folder: Path) -> dict[str, Any]:
    """What is noted of the direction in `folder`; raises `UsageError` where there is none."""
    for name in (NOTE_FILE, VECTOR_FILE):
        if not (folder / name).is_file():
            raise UsageError(
                f"{folder} holds no direction ({name} is missing): make one with tailbound steer"
            )
    path = folder / NOTE_FILE
    note = read_json(path, cure="make it again with tailbound steer")
    schema = note.get("schema")
    if schema != SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema {schema!r}, this tailbound reads {SCHEMA_VERSION}: make it anew "
            "with tailbound steer"
        )
    for key in ("width", *NOTED):
        if key not in note:
            raise UsageError(f"{path} has no {key!r}: make it anew with tailbound steer")
    if not _sound(note):
        raise UsageError(
            f"{path} is damaged (kind {note['kind']!r}, layer {note['layer']!r}, coefficient "
            f"{note['coefficient']!r}): make it anew with tailbound steer"
        )
    return note


def _sound(values: dict[str, Any]) -> bool:
    """Whether a note's values are of the kinds that a `Direction` has."""
    kind, layer, coefficient = values["kind"], values["layer"], values["coefficient"]
    return (
        (kind == "refusal" or (isinstance(kind, str) and kind.startswith("persona:")))
        and type(layer) is int
        and layer >= 0
        and type(coefficient) in (int, float)
        and math.isfinite(coefficient)
        and isinstance(values["evidence"], dict)
    )
