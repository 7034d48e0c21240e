"""Many requests at once: an event loop in a thread of its own, and the way back of its draws."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from tailbound.core.steps import in_background
from tailbound.targets.endpoint.client import Client

Work = TypeVar("Work")
Result = TypeVar("Result")


class Session(Generic[Work, Result]):
    """Runs `work(client, item)` for the items submitted; a context manager.

    `pending` items are unfinished. The first exception is kept as `error`; then nothing is tried
    again, and what was begun may finish.
    """

    def __init__(
        self, client: Client, work: Callable[[Client, Work], Awaitable[Sequence[Result]]]
    ) -> None:
        self._client = client
        self._work = work
        self._results: queue.SimpleQueue[tuple[Sequence[Result], Exception | None]] = (
            queue.SimpleQueue()
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=in_background(self._run), name="endpoint", daemon=True
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self.pending = 0
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def submit(self, items: Sequence[Work]) -> None:
        """Start work on `items`."""
        if items:
            self.pending += len(items)
            self._loop.call_soon_threadsafe(self._start, items)

    def finished(self, timeout: float | None) -> list[Result]:
        """The results there are by now; waits up to `timeout` seconds for the first one."""
        found: list[Result] = []
        try:
            answer = self._results.get(timeout=timeout)
            while True:
                results, error = answer
                self.pending -= 1
                found.extend(results)
                if error is not None and self.error is None:
                    self.error = error
                    self._loop.call_soon_threadsafe(self._client.give_up)
                answer = self._results.get_nowait()
        except queue.Empty:
            return found

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._client.open())
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end())
            self._loop.close()

    def _start(self, items: Sequence[Work]) -> None:
        for item in items:
            task = self._loop.create_task(self._do(item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, item: Work) -> None:
        try:
            results = await self._work(self._client, item)
        except Exception as error:
            self._results.put(((), error))
        else:
            self._results.put((results, None))

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()


async def gathered(calls: Sequence[Awaitable[Result]]) -> list[Result]:
    """All results in order; where one fails, the rest are cancelled and its error is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
