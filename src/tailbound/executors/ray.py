"""Workers as Ray actors: on the nodes of a cluster, each with a core, and a GPU where it has any.

tailbound must be installed on every node, in the same version. A Ray cluster runs whatever it is
sent: whoever reaches it owns its machines (see SECURITY.md).
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from tailbound.errors import TargetError, UsageError
from tailbound.executors.carriers import Carrier, Launch, WorkerLostError
from tailbound.executors.messages import packed, unpacked
from tailbound.executors.worker import Worker

CALLS_AT_ONCE = 4
SECONDS_TO_ANSWER = 10.0


class RayWorker:
    """The actor: a `Worker` whose errors travel as plain values."""

    def __init__(self) -> None:
        self._worker = Worker()

    def call(self, method: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
        """(True, the answer of the worker's method), or (False, the error)."""
        try:
            return True, getattr(self._worker, method)(*arguments)
        except Exception as error:
            return False, packed(error)


class RayCarrier:
    """One actor. It is not restarted by Ray: a new one would not know what the old one did."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Send a call; its answer comes with the future."""
        future: Future[Any] = Future()
        self._actor.call.remote(method, arguments).future().add_done_callback(
            lambda done: _hand_over(done, future)
        )
        return future

    def close(self) -> None:
        """End the actor."""
        import ray

        ray.kill(self._actor)


def _hand_over(done: Future[Any], future: Future[Any]) -> None:
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError

    error = done.exception()
    if isinstance(error, RayActorError | NodeDiedError | ObjectLostError):
        future.set_exception(WorkerLostError("its Ray actor is gone"))
    elif error is not None:
        line = (str(error).splitlines() or [""])[0]
        future.set_exception(TargetError(f"Ray: {type(error).__name__}: {line}"))
    else:
        ok, value = done.result()
        if ok:
            future.set_result(value)
        else:
            future.set_exception(unpacked(*value))


def _join(address: str) -> None:
    """Connect to a cluster, or raise `UsageError`; signals stay with the run."""
    import ray

    more = {"include_dashboard": False} if address == "local" else {}
    before = signal.getsignal(signal.SIGTERM)
    try:
        _look_for(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **more)
    except (OSError, ValueError, RuntimeError) as error:
        line = (str(error).splitlines() or [""])[0]
        raise UsageError(
            f"no Ray cluster at {address} ({line}): start one with ray start --head, give its "
            "address, or use --address local"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _look_for(address: str) -> None:
    """Raise `OSError` where nobody listens at HOST:PORT: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    if not port.isdecimal():
        raise ValueError("an address is HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER):
        pass


@contextmanager
def cluster(address: str | None) -> Iterator[Launch]:
    """Actors on the cluster at `address`; one on this machine that ends with the block if "local".

    Raises `UsageError` where there is no cluster.
    """
    import ray

    own = not ray.is_initialized()
    if own:
        _join(address or "auto")
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        actor = ray.remote(RayWorker)

        def launch(number: int) -> Carrier:
            return RayCarrier(
                actor.options(
                    num_cpus=1,
                    num_gpus=gpus,
                    max_restarts=0,
                    max_concurrency=CALLS_AT_ONCE,
                    scheduling_strategy="SPREAD",
                ).remote()
            )

        yield launch
    finally:
        if own:
            ray.shutdown()
