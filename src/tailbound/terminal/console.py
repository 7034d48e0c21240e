"""What people see on stderr: notices, and progress (`tailbound.terminal.progress`).

Nothing that others wrote reaches the terminal raw (`tailbound.core.outside.visible`,
`tailbound.terminal.safe`).
"""

from __future__ import annotations

import io
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING

from tailbound.core.outside import visible

if TYPE_CHECKING:
    from rich.console import Console


def stderr_console() -> Console:
    """The console for people; stdout stays clean for results."""
    from tailbound.terminal.safe import SafeConsole

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
