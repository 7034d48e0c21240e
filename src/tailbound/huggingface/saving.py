"""Writing checkpoints: what the disk refuses is one line."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from tailbound.storage.files import make_folder, refusals


def save_pretrained(thing: Any, folder: Path) -> None:
    """Have a model or tokenizer written to `folder`; `LedgerError` where the system refuses."""
    from safetensors import SafetensorError

    make_folder(folder)
    with refusals(folder):
        try:
            thing.save_pretrained(folder)
        except SafetensorError as error:
            # safetensors writes past Python and has an error of its own for what the system says
            raise OSError(_number(str(error)), str(error)) from error


def _number(said: str) -> int:
    """The error number in "... (os error 28)", that of an I/O error where there is none."""
    number = said.partition("(os error ")[2].partition(")")[0]
    return int(number) if number.isdecimal() else errno.EIO
