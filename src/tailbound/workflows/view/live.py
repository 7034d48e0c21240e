"""The page that is served: made when something has changed, and kept while nothing has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tailbound.core.outside import clean_text, visible
from tailbound.errors import TailboundError
from tailbound.workflows.report.html import Live, html
from tailbound.workflows.report.page import Block, Heading, Page, Paragraph, Section, Table
from tailbound.workflows.report.reading import reported
from tailbound.workflows.report.sections import method, page_of
from tailbound.workflows.show import show_folder
from tailbound.workflows.view.progress import Progress, Watched
from tailbound.workflows.words import count, plural

POLL, IDLE = 2.0, 10.0
"""Seconds between two looks of a page: while a run is in progress, and while none is."""
REST = 4.0
"""A page is made again after so many times as long as the last one took: a fifth of one core."""
FRESH = 0.5
"""Seconds for which a look at the folders is not repeated: several tabs cost what one does."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """All runs at a moment; `version` says when the page is another one."""

    runs: tuple[Progress, ...]

    @property
    def version(self) -> str:
        """Changes with every file of a run, and with its state."""
        return ".".join(one.version for one in self.runs)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to come."""
        return all(one.state == "finished" for one in self.runs)

    @property
    def lines(self) -> tuple[str, ...]:
        """Where each run stands."""
        return tuple(f"{one.folder.resolve().name}: {one.words}" for one in self.runs)


class LiveReport:
    """The report of some run folders, as a page and as the few numbers that a page asks for.

    Methods may be called from several threads. Nothing is written.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        show_unsafe: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is read yet."""
        self._folders = tuple(folders)
        self._show_unsafe = show_unsafe
        self._clock = clock
        self._watched = [Watched(folder) for folder in folders]
        self._watching, self._making = threading.Lock(), threading.Lock()
        self._last: tuple[float, Look] | None = None
        self._kept: tuple[str, bytes] | None = None
        self._not_before = 0.0

    def look(self) -> Look:
        """Where the runs stand."""
        with self._watching:
            now = self._clock()
            if self._last is None or now - self._last[0] >= FRESH:
                self._last = (now, Look(runs=tuple(one.look() for one in self._watched)))
            return self._last[1]

    def status(self) -> dict[str, Any]:
        """What a page asks for again and again: whether there is a newer one, and the numbers.

        `page` is the version of the page that would be served; `wait` is when to ask again.
        """
        look = self.look()
        kept, resting = self._kept, self._clock() < self._not_before
        served = kept[0] if kept is not None and resting else look.version
        return {
            "page": served,
            "finished": look.finished and served == look.version,
            "wait": POLL if any(one.state == "running" for one in look.runs) else IDLE,
            "lines": [visible(clean_text(line)) for line in look.lines],
        }

    def page(self) -> bytes:
        """The page as it stands: a new one where there is news and the last is not too young."""
        with self._making:
            look, started = self.look(), self._clock()
            if self._kept is None or (
                self._kept[0] != look.version and started >= self._not_before
            ):
                made = html(self._page(look), live=Live(version=look.version, lines=look.lines))
                self._kept = (look.version, made.encode())
                self._not_before = self._clock() + REST * (self._clock() - started)
            return self._kept[1]

    def _page(self, look: Look) -> Page:
        trouble: list[str] = []
        try:
            page = self._report(self._folders)
        except (TailboundError, OSError):
            # one of them cannot be read, or is only beginning: the others are shown
            readable = []
            for folder in self._folders:
                try:
                    self._report([folder])
                    readable.append(folder)
                except (TailboundError, OSError) as error:
                    trouble.append(str(error))
            page = self._report(readable)
        return _with_progress(page, look, trouble)

    def _report(self, folders: Sequence[Path]) -> Page:
        moment = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}"
        made = f"As of {moment}, by tailbound {version('tailbound')}."
        if folders:
            return page_of(reported(folders), show_unsafe=self._show_unsafe, made=made)
        nothing = Paragraph(text="No result yet: there is nothing that can be read.", weight="main")
        return Page(
            title="How rarely it misbehaves",
            subtitle=made,
            answers=Section(id="answers", title="The answer", blocks=(nothing,)),
            prompts=(),
            runs=(),
            method=method.section(()),
        )


def _with_progress(page: Page, look: Look, trouble: Sequence[str]) -> Page:
    """The page, with what is not finished or cannot be read before its answers."""
    blocks: list[Block] = [
        Paragraph(lead="Cannot be shown at present.", text=line, weight="warning")
        for line in trouble
    ]
    for one in look.runs:
        if one.state != "finished" or one.trouble is not None:
            blocks += _of_run(one)
    if not blocks:
        return page
    return replace(page, progress=Section(id="progress", title="Progress", blocks=tuple(blocks)))


def _of_run(run: Progress) -> list[Block]:
    said = {
        "running": "The run is in progress: this page follows it.",
        "stopped": "No process is seen to be writing, and the run is not finished.",
        "finished": "The run is finished.",
    }
    blocks: list[Block] = [
        Heading(text=run.folder.resolve().name, note=run.state),
        Paragraph(text=said[run.state]),
    ]
    if run.streams:
        blocks += [_table(run), Paragraph(text=_CAUTION, weight="fine")]
    try:
        overview = show_folder(run.folder).runs[0]
        missing, then = overview.missing, overview.next
    except (TailboundError, OSError) as error:
        missing, then = (run.trouble or str(error),), None
    blocks += [Paragraph(lead="Missing:", text=line) for line in dict.fromkeys(missing)]
    if run.state == "stopped" and then is not None:
        blocks.append(Paragraph(lead="To continue:", text=then))
    return blocks


_CAUTION = (
    "Counts of a run in progress are no estimates: draws are made where they are needed, some of "
    "them by versions of the target that are unsafe more often."
)


def _table(run: Progress) -> Table:
    of = "" if run.planned is None else f" (of {plural(run.planned, 'prompt')})"
    return Table(
        caption="Draws so far",
        columns=("stream", f"prompts begun{of}", "draws", "unsafe", "no verdict", "tokens"),
        rows=tuple(
            (
                name,
                count(len(one.prompts)),
                count(one.draws),
                count(one.unsafe),
                count(one.missing),
                count(one.tokens),
            )
            for name, one in sorted(run.streams.items())
        ),
        numbers=(1, 2, 3, 4, 5),
    )
