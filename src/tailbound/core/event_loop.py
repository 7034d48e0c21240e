"""One event loop in a thread, for code of others that is written with `async`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from tailbound.core.steps import in_background

Found = TypeVar("Found")


class EventLoop:
    """Runs coroutines one after another or side by side, always in the same loop.

    Clients of servers keep connections that belong to the loop in which they were opened: with a
    new loop for each call they would break. The thread starts with the first call, and ends with
    the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, Found]) -> Found:
        """What `work` returns or raises; it is cancelled where the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the work was cancelled") from None
        except BaseException:
            future.cancel()
            raise

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=in_background(self._loop.run_forever), name=self._name, daemon=True
                )
                thread.start()
            return self._loop
