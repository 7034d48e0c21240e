"""Steps that a signal must not cut in two, and what is left when a command is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block is over.

    Between a file in its place and the memory that says so, an interrupt would have the same rows
    written twice. Elsewhere than in the main thread, where Python handles no signals, nothing
    needs to wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    before: dict[int, Any] = {}
    try:
        for number in map(int, (signal.SIGINT, signal.SIGTERM)):
            before[number] = signal.getsignal(number)
            if before[number] is not None:  # None: installed by something that is not Python
                signal.signal(number, lambda received, frame: held.append((received, frame)))
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
        for number, frame in held[:1]:
            if callable(before[number]):
                before[number](number, frame)
            elif before[number] == signal.SIG_DFL:
                signal.raise_signal(number)


_kept: Path | None = None


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Finished draws or verdicts are kept in `folder` from here on, until the block is over."""
    global _kept
    before, _kept = _kept, folder
    yield
    # not where an exception came through: that is when somebody asks
    _kept = before


def keeps_nothing() -> None:
    """A command begins: it keeps nothing yet."""
    global _kept
    _kept = None


def kept_in() -> Path | None:
    """The folder that holds what an interrupted command finished; None where nothing was kept."""
    return _kept
