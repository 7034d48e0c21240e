"""Real processes that get SIGKILL, SIGTERM, SIGINT and SIGSTOP at random moments.

Each command is started, told to end (or stopped for a moment) some time later, and started again
with the same line, many times over; then it runs to its end. Ledgers and results must be those of
a run that nobody disturbed: tokens and verdicts of every draw, and the files of results.

The twenty moments are those of processes forked from one that has imported torch already: so they
fall into the work, and not, as most would, into eight seconds of imports.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl
import pytest

from tailbound.demo.files import default_prompts

KEY = ["stream", "prompt_id", "index"]
TOLD = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP]
RUN = [sys.executable, "-m", "tailbound"]


@dataclass(frozen=True)
class Command:
    """The line that writes to a folder, and what of the folder must always be the same."""

    line: Callable[[Path, Path], list[str]]
    """Of (folder with the inputs, folder that is written)."""
    results: tuple[str, ...]
    draws: str = "draws"
    prepare: Callable[[Path, Path], None] | None = None


def _prompts(inputs: Path, n: int) -> Path:
    path = inputs / f"prompts-{n}.jsonl"
    path.write_text(
        "".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in default_prompts(n))
    )
    return path


def _bound(inputs: Path, out: Path) -> list[str]:
    return [*RUN, "bound", str(_prompts(inputs, 150)), "--out", str(out), "--max-new-tokens", "32",
            "--budget", "8", "--train-draws", "20", "--test-draws", "20", "--json"]  # fmt: skip


def _risk(inputs: Path, out: Path) -> list[str]:
    return [*RUN, "risk", str(_prompts(inputs, 3)), "--out", str(out), "--max-new-tokens", "32",
            "--draws", "100", "--json"]  # fmt: skip


def _table(inputs: Path) -> Path:
    path = inputs / "table.jsonl"
    rows = [
        {"id": f"p{n % 40}", "prompt": f"question {n % 40}", "response": f"answer {n}",
         "score": float(n % 7 == 0)}
        for n in range(8000)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _import(inputs: Path, out: Path) -> list[str]:
    return [*RUN, "import", str(_table(inputs)), "--out", str(out), "--json"]


def _imported(inputs: Path, out: Path) -> None:
    subprocess.run(_import(inputs, out), check=True, capture_output=True)


def _rejudge(_: Path, out: Path) -> list[str]:
    return [*RUN, "rejudge", str(out), "--judge", "regex:(1|3)[02468]$", "--json"]


def _steer(_: Path, out: Path) -> list[str]:
    return [*RUN, "steer", "refusal", "--out", str(out), "--json"]


COMMANDS = {
    "bound": Command(_bound, ("bound.json", "evaluation.json", "predictions.parquet")),
    "risk": Command(_risk, ("risk.json", "risk.parquet", "review.jsonl", "proposal.json")),
    "import": Command(_import, ("prompts.parquet",)),
    "rejudge": Command(_rejudge, (), draws="verdicts/*", prepare=_imported),
    "steer": Command(_steer, ("direction.json", "direction.safetensors"), draws=""),
}


class Cold:
    """Every process begins anew."""

    def start(self, line: list[str]) -> None:
        self._process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> tuple[int, str]:
        """Exit code, or the negative number of the signal, and what was said on standard error."""
        _, said = self._process.communicate(timeout=120)
        return self._process.returncode, said


FORKING = """
import json, os, sys
import safetensors.torch, scipy.stats, torch, transformers
import tailbound.steering.refusal
from tailbound.cli import main
print("ready", flush=True)
while line := sys.stdin.readline():
    request = json.loads(line)
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(request["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.argv = ["tailbound", *request["line"]]
        main()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Warm:
    """Every process is a fork of one that has imported torch."""

    def __init__(self, said: Path, stdin: IO[str], stdout: IO[str]) -> None:
        self._said, self._stdin, self._stdout = said, stdin, stdout

    def start(self, line: list[str]) -> None:
        request = {"line": line[len(RUN) :], "said": str(self._said)}
        self._stdin.write(json.dumps(request) + "\n")
        self._stdin.flush()
        self.pid = int(self._stdout.readline())

    def ended_within(self, seconds: float) -> bool:
        return bool(select.select([self._stdout], [], [], seconds)[0])

    def finish(self) -> tuple[int, str]:
        assert self.ended_within(120)
        return int(self._stdout.readline()), self._said.read_text()


@contextmanager
def warm(said: Path) -> Iterator[Warm]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Warm(said, process.stdin, process.stdout)
        process.stdin.close()


def disturb(process: Cold | Warm, line: list[str], told: signal.Signals, after: float) -> bool:
    """Run the line and tell the process after so many seconds; True if it came to its end."""
    process.start(line)
    if not process.ended_within(after):
        os.kill(process.pid, told)
        if told is signal.SIGSTOP:
            time.sleep(0.3)
            os.kill(process.pid, signal.SIGCONT)
    code, said = process.finish()
    # Python itself answers an interrupt in the midst of some imports by SIGINT: shells say 130 too
    assert code in (0, -int(told), -int(signal.SIGINT), 130), (told, code, said)
    # before the first line of ours it is Python that is interrupted, and says so at length
    assert "Traceback" not in said or "cli/" not in said, said
    return code == 0


def check(command: Command, inputs: Path, *, moments: int, seed: int, process: Cold | Warm) -> None:
    """Folders that are disturbed `moments` times, in all, end as the folder of a run that is not.

    Where a disturbed process comes to its end, the next one begins in a new folder.
    """
    straight = _fresh(command, inputs, "straight")
    begun = time.monotonic()
    _finish(process, command.line(inputs, straight))
    lasts = time.monotonic() - begun
    rng = random.Random(seed)
    folders = [_fresh(command, inputs, "0")]
    for number in range(moments):
        line = command.line(inputs, folders[-1])
        told, after = TOLD[(number + seed) % 4], rng.uniform(0, lasts)
        if disturb(process, line, told, after) and number < moments - 1:
            folders.append(_fresh(command, inputs, str(len(folders))))
    _finish(process, command.line(inputs, folders[-1]))
    for folder in folders:
        _same(command, straight, folder)


def _fresh(command: Command, inputs: Path, name: str) -> Path:
    folder = inputs / name / "run"
    folder.parent.mkdir()
    if command.prepare is not None:
        command.prepare(inputs, folder)
    return folder


def _same(command: Command, straight: Path, disturbed: Path) -> None:
    _same_draws(command, straight, disturbed)
    for name in command.results:
        if name.endswith(".parquet"):
            assert pl.read_parquet(straight / name).equals(pl.read_parquet(disturbed / name)), name
        else:
            assert (straight / name).read_bytes() == (disturbed / name).read_bytes(), name
    assert not list(disturbed.rglob(".*.tmp"))


def _finish(process: Cold | Warm, line: list[str]) -> None:
    process.start(line)
    code, said = process.finish()
    assert code == 0, said


def _same_draws(command: Command, one: Path, two: Path) -> None:
    if not command.draws:
        return
    tables = [_read(folder, command.draws) for folder in (one, two)]
    for table in tables:
        assert not table.select(KEY).is_duplicated().any()
    both = tables[0].join(tables[1], on=KEY, suffix="_two")
    if one.joinpath("bound.json").exists():
        # draws beyond an event that was not yet known when they were asked for
        assert both.height >= 0.9 * max(table.height for table in tables)
    else:
        assert both.height == tables[0].height == tables[1].height
    for column in set(tables[0].columns) & {"token_ids", "text", "score", "reason", "proposal"}:
        assert both[column].equals(both[f"{column}_two"], null_equal=True), column


def _read(folder: Path, pattern: str) -> pl.DataFrame:
    files = sorted(file for home in folder.glob(pattern) for file in home.glob("part-*.parquet"))
    assert files
    return pl.concat([pl.read_parquet(file) for file in files])


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("import", "risk") else pytest.param(name, marks=pytest.mark.slow)
        for name in COMMANDS
    ],
)
def test_a_command_that_is_disturbed_ends_as_one_that_is_not(name: str, tmp_path: Path) -> None:
    check(COMMANDS[name], tmp_path, moments=1, seed=len(name), process=Cold())


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_twenty_moments(name: str, tmp_path: Path) -> None:
    with warm(tmp_path / "said.txt") as process:
        check(COMMANDS[name], tmp_path, moments=20, seed=7, process=process)


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_parts_are_imported_is_one_line(
    told: signal.Signals, tmp_path: Path
) -> None:
    """The last of the parts, typer, is one that stands still here."""
    (tmp_path / "typer.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [*RUN, "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(told)
    _, said = process.communicate(timeout=30)
    if told is signal.SIGINT:
        assert (process.returncode, said) == (130, "tailbound: interrupted\n")
    else:
        assert (process.returncode, said) == (-told, "")


def test_an_interrupt_while_torch_is_imported_waits(tmp_path: Path) -> None:
    """Its C++ would abort the process; the torch here says whether it was interrupted."""
    (tmp_path / "torch.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(1)\nprint('whole', flush=True)\n"
    )
    prompts = _prompts(tmp_path, 150)
    process = subprocess.Popen(
        [*RUN, "bound", str(prompts), "--budget", "8", "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert out == "whole\n"
    assert process.returncode == 130
    assert said.startswith("tailbound: interrupted")
