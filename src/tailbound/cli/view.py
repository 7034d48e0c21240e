"""`tailbound view`: the report of runs in a browser, while they go on."""

from __future__ import annotations

import sys
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
    """Serve the report of runs to a browser on this machine, and follow a run that goes on."""
    from tailbound.terminal.browser import open_browser
    from tailbound.terminal.console import notice, say
    from tailbound.workflows.view.command import view_command

    def ready(url: str, browser: bool) -> None:
        say(f"report: {url}")
        say("Only this machine can reach it, and only by this address. Ctrl-C ends it.")
        sys.stdout.flush()
        if browser:
            open_browser(url)

    view_command(folders, options, ready=ready, complain=notice)
