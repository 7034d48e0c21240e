"""Real processes of `tailbound` that start at once.

Most of a short command's time goes into importing torch, about five seconds of a core. These
processes are forked from one that has imported it and loaded the demo model once, and can be
killed, interrupted and run side by side like any other. Tests of the start itself (what an
interrupt does to an import, what a first run prints) begin processes of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: For every request a middle process forks the one that works, waits for it and writes its code.
_FORKING = """
import json, os, runpy, signal, sys
import aiohttp, safetensors.torch, scipy.stats, torch, transformers
import tailbound.api, tailbound.demo.target, tailbound.steering.refusal
from tailbound.cli import main
from tailbound.core.contract import SamplingOptions
from tailbound.targets.registry import load_target

# what a first load imports and builds; it leaves no thread behind, which a fork would lack
load_target("demo", SamplingOptions())
assert len(os.listdir("/proc/self/task")) == 1

def work(request):
    os.setsid()
    # as from a terminal: a shell that starts the tests in the background has interrupts ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(request["files"] + "." + name, flags, 0o600), number)
    sys.argv = request["line"]
    if request["line"][0] == "tailbound":
        main()
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(request["line"][0])))
        runpy.run_path(request["line"][0], run_name="__main__")

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while line := sys.stdin.readline():
    request = json.loads(line)
    if os.fork():
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        work(request)
        sys.exit(0)
    os.write(1, f"{pid}\\n".encode())
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(request["files"] + ".part", "w") as file:
        file.write(str(code))
    os.replace(request["files"] + ".part", request["files"] + ".code")
    os._exit(0)
"""


@dataclass(frozen=True)
class Process:
    """One that was started; its exit code is that of `subprocess`: negative after a signal."""

    pid: int
    files: str

    def ended_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not os.path.exists(self.files + ".code"):
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    @property
    def running(self) -> bool:
        return not self.ended_within(0)

    def send_signal(self, number: int) -> None:
        if self.running:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self.ended_within(60)

    def finish(self, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Its code, standard output and standard error, once it has ended."""
        if not self.ended_within(timeout):
            self.kill()
            raise TimeoutError(f"a process took more than {timeout:g} s")
        code, out, err = (Path(f"{self.files}.{name}") for name in ("code", "out", "err"))
        return subprocess.CompletedProcess(
            [], int(code.read_text()), out.read_text(), err.read_text()
        )


class Launcher:
    """Starts `tailbound` with arguments, or a script, in processes that have imported torch."""

    def __init__(self, folder: Path, requests: IO[str], answers: IO[str]) -> None:
        self._folder, self._requests, self._answers = folder, requests, answers
        self._number = 0

    def start(
        self,
        *arguments: object,
        folder: Path | None = None,
        script: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """`tailbound ARGUMENTS`, or `python SCRIPT ARGUMENTS`, in `folder`."""
        self._number += 1
        files = str(self._folder / str(self._number))
        request = {
            "line": [str(script or "tailbound"), *map(str, arguments)],
            "folder": str(folder or Path.cwd()),
            "environment": dict(environment or {}),
            "files": files,
        }
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()
        return Process(int(self._answers.readline()), files)

    def run(
        self,
        *arguments: object,
        folder: Path | None = None,
        script: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        return self.start(*arguments, folder=folder, script=script).finish(timeout=timeout)


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    """A launcher that keeps what its processes print in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Launcher(folder, process.stdin, process.stdout)
        process.stdin.close()
