"""`view` from its arguments until it is interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailbound.core.options import make
from tailbound.core.steps import notice
from tailbound.errors import UsageError
from tailbound.runs.layout import DRAWS, LOCK, MANIFEST
from tailbound.workflows.report.reading import reported
from tailbound.workflows.view.live import LiveReport
from tailbound.workflows.view.server import ReportServer
from tailbound.workflows.view.settings import ViewOptions


def view_command(
    folders: Sequence[Path],
    given: Mapping[str, Any],
    *,
    ready: Callable[[str, bool], None],
    complain: Callable[[str], None] = notice,
) -> None:
    """Everything that `tailbound view` does; `given` are options of `ViewOptions` by name.

    Serves until a `KeyboardInterrupt`, which ends it in the ordinary way. `ready` is called with
    the address and whether a browser is wanted, once somebody can connect; `complain` with a line
    where a page could not be made. Raises `UsageError` for a folder that is no run, and where the
    port cannot be had.
    """
    asked = make(ViewOptions, given)
    _check(folders)
    report = LiveReport(folders, show_unsafe=asked.show_unsafe)
    with ReportServer(report, port=asked.port, complain=complain) as server:
        try:
            ready(server.url, not asked.no_browser)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            return


def _check(folders: Sequence[Path]) -> None:
    """Refuse what is no run, and what is named twice; a run that only begins has no `run.yaml`."""
    for folder in folders:
        if not folder.exists():
            raise UsageError(f"{folder} does not exist: give the --out of a run that has begun")
    known = [folder for folder in folders if (folder / MANIFEST).is_file() or not _begins(folder)]
    if known or not folders:
        reported(known)
    places = [folder.resolve() for folder in folders]
    for place in places:
        if places.count(place) > 1:
            raise UsageError(f"{place} is named twice: name each run once")


def _begins(folder: Path) -> bool:
    return (folder / LOCK).is_file() or (folder / DRAWS).is_dir()
