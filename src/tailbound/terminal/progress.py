"""Progress on stderr: live bars on a terminal, else a plain line a minute.

Streams of draws report where they stand (`tailbound.audit.Progress`); everything else that may take
long is a step (`tailbound.core.steps`). Whatever took more than a moment leaves one line.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tailbound.audit.progress import Progress
from tailbound.core.outside import visible
from tailbound.core.steps import Step, notices_to, watched_by

if TYPE_CHECKING:
    from rich.progress import TaskID

MINUTE = 60.0
NOTABLE = 2.0
"""Seconds from which a step leaves a line."""
_REDRAW = 0.2


class LiveProgress:
    """A `Reporter` of streams and a watcher of steps, while it is entered."""

    def __init__(self, *, every: float = MINUTE) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        from tailbound.terminal.console import stderr_console

        self._console = stderr_console()
        self._live = self._console.is_terminal
        self._every = every
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._latest: dict[str, Progress] = {}
        self._reported: dict[str, float] = {}
        self._streams: dict[str, TaskID] = {}
        self._steps: list[tuple[Step, TaskID | None]] = []
        self._drawn = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        from tailbound.terminal.console import notice

        self._stack.enter_context(watched_by(self))
        self._stack.enter_context(notices_to(notice))
        if self._live:
            self._bars.start()
        else:
            threading.Thread(target=self._say_every, name="progress", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._over.set()
        if self._live:
            self._bars.stop()
        for progress in self._latest.values():
            self._print(_stream_line(progress))

    def __call__(self, progress: Progress) -> None:
        """Show where a stream stands."""
        before = self._latest.get(progress.stream)
        if progress.draws == 0 and progress.remaining == 0 and before is not None:
            return
        with self._lock:
            self._latest[progress.stream] = progress
            self._reported[progress.stream] = time.monotonic()
        if not self._live:
            return
        if progress.stream not in self._streams:
            self._streams[progress.stream] = self._bars.add_task(progress.stream, detail="")
        self._bars.update(
            self._streams[progress.stream],
            completed=progress.draws,
            total=progress.draws + progress.remaining,
            detail=_detail(progress),
        )

    def began(self, step: Step) -> None:
        """Show a step."""
        task = None
        if self._live:
            task = self._bars.add_task(visible(step.name), total=step.total, detail=_amount(step))
        with self._lock:
            self._steps.append((step, task))

    def advanced(self, step: Step) -> None:
        """Show how far it is; not more often than a person can see."""
        now = time.monotonic()
        if not self._live or now - self._drawn < _REDRAW:
            return
        self._drawn = now
        for held, task in self._steps:
            if held is step and task is not None:
                self._bars.update(task, completed=step.done, detail=_amount(step))

    def ended(self, step: Step) -> None:
        """Leave a line if it took more than a moment."""
        with self._lock:
            for held, task in self._steps:
                if held is step and task is not None:
                    self._bars.remove_task(task)
            self._steps = [pair for pair in self._steps if pair[0] is not step]
        if step.seconds >= NOTABLE and not step.failed:
            self._print(_step_line(step))

    def _say_every(self) -> None:
        while not self._over.wait(self._every):
            line = self._now()
            if line:
                self._print(line)

    def _now(self) -> str | None:
        """What is being done at present, in one line."""
        with self._lock:
            if self._steps:
                return f"{_step_line(self._steps[-1][0])} so far"
            if not self._reported:
                return None
            stream = max(self._reported, key=self._reported.__getitem__)
            if time.monotonic() - self._reported[stream] > self._every:
                return None
            return _stream_line(self._latest[stream])

    def _print(self, line: str) -> None:
        self._console.print(visible(line), soft_wrap=True)


def _stream_line(progress: Progress) -> str:
    return f"{progress.stream}: {_detail(progress)}"


def _step_line(step: Step) -> str:
    return ", ".join(part for part in (step.name, _amount(step), clock(step.seconds)) if part)


def _amount(step: Step) -> str:
    unit = f" {step.unit}" if step.unit else ""
    if step.total is None:
        return f"{step.done:,}{unit}" if step.done else ""
    return f"{step.done:,} of {step.total:,}{unit}"


def _detail(progress: Progress) -> str:
    seconds = max(progress.seconds, 1e-9)
    parts = [
        f"{progress.draws:,} draws",
        f"{progress.draws / seconds:,.0f}/s",
        f"{progress.tokens:,} tokens",
        f"{progress.unsafe:,} unsafe",
    ]
    if progress.missing:
        parts.append(f"{progress.missing:,} missing")
    if progress.reused:
        parts.append(f"{progress.reused:,} reused")
    if progress.remaining and progress.draws:
        parts.append(f"at most {clock(progress.remaining * seconds / progress.draws)} to go")
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """A duration as people say it: 12 s, 3:05 min, 2 h 07 min.

    >>> clock(12), clock(185), clock(7620)
    ('12 s', '3:05 min', '2 h 07 min')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes}:{rest:02d} min"
