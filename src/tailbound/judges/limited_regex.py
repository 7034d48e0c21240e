"""Python's regular expressions in a process of their own, so that none can hang a run.

Python's engine holds its interpreter while it looks, for hours where a pattern repeats what
repeats. Over there a timer stops it after `LIMIT` seconds of computing, and this process continues.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

LIMIT = 1.0
"""Seconds of computing for one text."""

TOTAL_LIMIT = 60.0
"""Seconds by the clock after which the process is killed, should its timer not work."""

_WORKER = Path(__file__).with_name("regex_worker.py")


class LimitedSearch:
    """Whether `pattern` occurs in texts, None where that took longer than `limit` seconds.

    The process starts with the first text and ends with this object. Safe for several threads.
    """

    def __init__(
        self, pattern: str, *, limit: float = LIMIT, total_limit: float = TOTAL_LIMIT
    ) -> None:
        self._setting = json.dumps([pattern, limit])
        self._total_limit = total_limit
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end: weakref.finalize[..., LimitedSearch] | None = None

    def __call__(self, texts: Sequence[str]) -> list[bool | None]:
        """One answer for each text, in order."""
        with self._lock:
            try:
                return [self._one(text) for text in texts]
            except BaseException:
                self._stop()  # an answer may be on its way to nobody
                raise

    def _one(self, text: str) -> bool | None:
        for _ in range(2):  # a process that somebody ended is started again
            process = self._started()
            late = threading.Event()
            timer = threading.Timer(self._total_limit, _kill, (process, late))
            timer.daemon = True
            timer.start()
            try:
                answer = _ask(process, json.dumps(text))
            finally:
                timer.cancel()
            if answer:
                found = json.loads(answer)
                return None if found is None else bool(found)
            self._stop()
            if late.is_set():
                return None
        raise RuntimeError("the process that looks for patterns ends by itself")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # it may be ended in mid-line, and nobody need hear
                text=True,
                encoding="ascii",
            )
            self._end = weakref.finalize(self, _dispose, self._process)
            _ask(self._process, self._setting)
        return self._process

    def _stop(self) -> None:
        self._process = None
        if self._end is not None:
            self._end()


def _ask(process: subprocess.Popen[str], line: str) -> str:
    """The line that answers `line`, "" where the process is gone."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return ""


def _kill(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def _dispose(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with contextlib.suppress(BrokenPipeError):  # of what was not yet written
            stream.close()
