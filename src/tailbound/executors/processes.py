"""Workers as processes of this machine, each with its share of the cores and a GPU of its own.

A worker is a fresh interpreter, not a fork: torch does not survive one. Calls go through a pair of
sockets that nobody else can reach; when either end dies the other one reads the end of the stream.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

from tailbound.errors import UsageError
from tailbound.executors.carriers import WorkerLostError
from tailbound.executors.messages import unpacked

GPUS = "CUDA_VISIBLE_DEVICES"


class ProcessCarrier:
    """One worker process of this machine."""

    def __init__(self, environment: dict[str, str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tailbound.executors.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
        self._connection = Connection(ours.detach())
        self._futures: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._reader = threading.Thread(target=self._read, name="worker", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Send a call; its answer comes with the future."""
        future: Future[Any] = Future()
        with self._lock:
            if self._lost is not None:
                future.set_exception(WorkerLostError(self._lost))
                return future
            number = next(self._numbers)
            self._futures[number] = future
            with suppress(OSError):  # the reader finds out why
                self._connection.send_bytes(pickle.dumps((number, method, arguments)))
        return future

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._connection.close()

    def _read(self) -> None:
        while True:
            try:
                number, ok, value = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                break
            with self._lock:
                future = self._futures.pop(number)
            if ok:
                future.set_result(value)
            else:
                future.set_exception(unpacked(*value))
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        with self._lock:
            self._lost = how
            left, self._futures = list(self._futures.values()), {}
        for future in left:
            future.set_exception(WorkerLostError(how))


def environments(workers: int) -> list[dict[str, str]]:
    """What each worker finds in its environment: its share of the cores, and its GPU if any.

    Raises `UsageError` where there are more workers than GPUs.
    """
    cores = len(os.sched_getaffinity(0))
    each = str(max(1, cores // workers))
    share = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": each}
    gpus = _gpus()
    if gpus and workers > len(gpus):
        raise UsageError(
            f"--workers {workers} is more than the {len(gpus)} GPUs that this process may use: "
            f"ask for at most {len(gpus)}, or hide them with {GPUS}= for the CPU"
        )
    return [{**share, **({GPUS: gpus[number]} if gpus else {})} for number in range(workers)]


def _gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA has for them."""
    named = os.environ.get(GPUS)
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    if find_spec("torch") is None:
        return []
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
