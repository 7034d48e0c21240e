"""The worker's end: `python -m tailbound.executors.process FD`, started by `ProcessCarrier`.

It ends with the process that started it, however that ends: the socket then reads as closed.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from tailbound.executors.messages import packed
from tailbound.executors.worker import Worker

CALLS_AT_ONCE = 4


def main() -> None:
    """Answer calls until the other end is closed."""
    # an interrupt at the terminal goes to the process of the run, which ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    worker, sending = Worker(), threading.Lock()

    def answer(number: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            value, ok = getattr(worker, method)(*arguments), True
        except BaseException as error:  # the other end raises it
            value, ok = packed(error), False
        with sending:
            connection.send_bytes(pickle.dumps((number, ok, value)))

    with ThreadPoolExecutor(CALLS_AT_ONCE) as calls:
        while True:
            try:
                call = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)  # in the middle of whatever it is doing
            calls.submit(answer, *call)


if __name__ == "__main__":
    main()
