"""`tailbound show`: what ran in a folder, what came out, what is missing, what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailbound.cli import options as opt
from tailbound.cli.say import json_document


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Run folder, or a folder of run folders.")
    ],
    as_json: opt.Json = False,
) -> None:
    """Say what ran in a folder, what came out, what is missing, and what to do next."""
    from tailbound.workflows.show.reading import show_folder

    found = show_folder(folder)
    if as_json:
        json_document(found.to_dict())
        return
    from tailbound.cli.render.show import overview

    overview(found)
