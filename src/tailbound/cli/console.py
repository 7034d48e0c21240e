"""What people see while a run goes on: notices and one live line per stream, on stderr.

Nothing that others wrote reaches the terminal raw (`tailbound.outside.visible`,
`tailbound.cli.terminal`).
"""

from __future__ import annotations

import io
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tailbound.audit.progress import Progress
from tailbound.outside import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


def stderr_console() -> Console:
    """The console for people; stdout stays clean for results."""
    from tailbound.cli.terminal import SafeConsole

    return SafeConsole(stderr=True)


def say(text: str = "") -> None:
    """One line of a result on stdout."""
    print(visible(text))


def notice(text: str) -> None:
    """One line that the user should know."""
    print(visible(f"note: {text}"), file=sys.stderr)


def step(text: str) -> None:
    """One line that says what the command does from here on."""
    print(visible(f"[{text}]"), file=sys.stderr, flush=True)


def guard() -> None:
    """Write what a terminal cannot show as escapes, and tracebacks too without anything raw."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _show_traceback


def _show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    lines = "".join(traceback.format_exception(kind, error, trace))
    print(visible(lines, keep="\n"), end="", file=sys.stderr, flush=True)


class LiveProgress:
    """A `Reporter` that draws one bar per stream: rate, unsafe events, spend and time to go.

    On a terminal the bars are live; elsewhere each stream leaves one line when it ends.
    """

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        self._console = stderr_console()
        self._tasks: dict[str, TaskID] = {}
        self._latest: dict[str, Progress] = {}
        self._bars: Bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()
        if not self._console.is_terminal:
            for progress in self._latest.values():
                self._console.print(f"{progress.stream:<12} {_detail(progress)}", soft_wrap=True)

    def __call__(self, progress: Progress) -> None:
        """Show where a stream stands."""
        before = self._latest.get(progress.stream)
        if progress.draws == 0 and progress.remaining == 0 and before is not None:
            return
        self._latest[progress.stream] = progress
        task = self._tasks.get(progress.stream)
        if task is None:
            task = self._bars.add_task(progress.stream, total=None, detail="")
            self._tasks[progress.stream] = task
        self._bars.update(
            task,
            completed=progress.draws,
            total=progress.draws + progress.remaining,
            detail=_detail(progress),
        )


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
        parts.append(f"at most {_clock(progress.remaining * seconds / progress.draws)} to go")
    return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes}:{rest:02d}"
