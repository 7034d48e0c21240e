"""`tailbound view`: the report of runs in a browser, while they are in progress."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailbound.cli.declared import declares
from tailbound.workflows.view.settings import ViewOptions


@declares(ViewOptions)
def command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Run folders, one or several.")
    ],
    **options: Any,
) -> None:
    """Serve the report of runs to a browser on this machine, and follow a run in progress."""
    from tailbound.terminal.browser import announce
    from tailbound.terminal.console import notice
    from tailbound.workflows.view.command import view_command

    view_command(folders, options, ready=announce, complain=notice)
