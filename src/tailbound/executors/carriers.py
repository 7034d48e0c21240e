"""How calls reach a worker: each answers with a future, and says when the worker is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class WorkerLostError(Exception):
    """The worker is gone: its process was killed, or its machine is no longer there."""


class Carrier(Protocol):
    """The way to one worker."""

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """The worker's method, called; the future raises `WorkerLostError` where it is gone."""
        ...

    def close(self) -> None:
        """End the worker."""
        ...


Launch = Callable[[int], Carrier]
"""Starts worker number 0, 1, ...; it does not wait until it is there."""
