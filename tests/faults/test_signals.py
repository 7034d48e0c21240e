"""Real processes that get SIGKILL, SIGTERM, SIGINT and SIGSTOP at random moments.

Each command is started, gets a signal (or is stopped for a moment) some time later, and is started
again with the same line, many times over; then it runs to its end. Ledgers and results must be
those of a run that nobody disturbed: tokens and verdicts of every draw, and the files of results.

The eight moments are those of processes forked from one that has imported torch already: so they
fall into the work, and not, as most would, into seconds of imports.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from processes import Launcher
from sizes import size
from tailbound.demo.files import default_prompts

KEY = ["stream", "prompt_id", "index"]
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP]
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
    return ["bound", str(_prompts(inputs, 150)), "--out", str(out), "--max-new-tokens", "32",
            "--budget", "8", "--train-draws", "20", "--test-draws", "20", "--json"]  # fmt: skip


def _risk(inputs: Path, out: Path) -> list[str]:
    return ["risk", str(_prompts(inputs, 3)), "--out", str(out), "--max-new-tokens", "32",
            "--draws", "100", "--json"]  # fmt: skip


def _table(inputs: Path) -> Path:
    path = inputs / "table.jsonl"
    rows = [
        {"id": f"p{n % 40}", "prompt": f"question {n % 40}", "response": f"answer {n}",
         "score": float(n % 7 == 0)}
        for n in range(4000)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _import(inputs: Path, out: Path) -> list[str]:
    return ["import", str(_table(inputs)), "--out", str(out), "--json"]


def _imported(inputs: Path, out: Path) -> None:
    """What `import` makes of the table: made once, then copied."""
    if not (inputs / "imported").exists():
        line = [*RUN, *_import(inputs, inputs / "imported")]
        subprocess.run(line, check=True, capture_output=True)
    shutil.copytree(inputs / "imported", out)


def _rejudge(_: Path, out: Path) -> list[str]:
    return ["rejudge", str(out), "--judge", "regex:(1|3)[02468]$", "--json"]


def _steer(_: Path, out: Path) -> list[str]:
    return ["steer", "refusal", "--out", str(out), "--json"]


COMMANDS = {
    "bound": Command(_bound, ("bound.json", "evaluation.json", "predictions.parquet")),
    "risk": Command(_risk, ("risk.json", "risk.parquet", "review.jsonl", "proposal.json")),
    "import": Command(_import, ("prompts.parquet",)),
    "rejudge": Command(_rejudge, (), draws="verdicts/*", prepare=_imported),
    "steer": Command(_steer, ("direction.json", "direction.safetensors"), draws=""),
}


class Cold:
    """Starts every process anew."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0

    def start(self, *arguments: object) -> Anew:
        self._number += 1
        return Anew([*RUN, *map(str, arguments)], self._folder / f"said-{self._number}.txt")


class Anew:
    """A process that has to import everything first."""

    def __init__(self, line: list[str], said: Path) -> None:
        self._said = said
        with said.open("w") as file:
            self._process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=file)

    def ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def finish(self, *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Exit code, or the negative number of the signal, and what was said on standard error."""
        code = self._process.wait(timeout=timeout)
        return subprocess.CompletedProcess([], code, "", self._said.read_text())


def disturb(starter: Cold | Launcher, line: list[str], sent: signal.Signals, after: float) -> bool:
    """Run the line, send a signal after so many seconds; True if the process came to its end."""
    process = starter.start(*line)
    if not process.ended_within(after):
        process.send_signal(sent)
        if sent is signal.SIGSTOP:
            time.sleep(0.3)
            process.send_signal(signal.SIGCONT)
    done = process.finish()
    code, said = done.returncode, done.stderr
    # Python itself answers an interrupt in the midst of some imports by SIGINT: shells say 130 too
    assert code in (0, -int(sent), -int(signal.SIGINT), 130), (sent, code, said)
    # before the first line of ours it is Python that is interrupted, and says so at length
    assert "Traceback" not in said or "cli/" not in said, said
    return code == 0


def check(
    command: Command, inputs: Path, *, moments: int, seed: int, starter: Cold | Launcher
) -> None:
    """Folders that are disturbed `moments` times, in all, end as the folder of a run that is not.

    Where a disturbed process comes to its end, the next one begins in a new folder.
    """
    straight = _fresh(command, inputs, "straight")
    begun = time.monotonic()
    _finish(starter, command.line(inputs, straight))
    lasts = time.monotonic() - begun
    rng = random.Random(seed)
    folders = [_fresh(command, inputs, "0")]
    for number in range(moments):
        line = command.line(inputs, folders[-1])
        sent, after = SIGNALS[(number + seed) % 4], rng.uniform(0, lasts)
        if disturb(starter, line, sent, after) and number < moments - 1:
            folders.append(_fresh(command, inputs, str(len(folders))))
    _finish(starter, command.line(inputs, folders[-1]))
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


def _finish(starter: Cold | Launcher, line: list[str]) -> None:
    done = starter.start(*line).finish()
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("name", ["import", pytest.param("risk", marks=pytest.mark.slow)])
def test_a_command_that_is_disturbed_ends_as_one_that_is_not(name: str, tmp_path: Path) -> None:
    """At one moment of a process that begins anew; it falls into imports more often than not."""
    check(COMMANDS[name], tmp_path, moments=1, seed=len(name), starter=Cold(tmp_path))


def test_a_disturbed_risk_ends_as_one_that_is_not(launcher: Launcher, tmp_path: Path) -> None:
    """At one moment, which falls into its work."""
    check(COMMANDS["risk"], tmp_path, moments=1, seed=4, starter=launcher)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_eight_moments(name: str, launcher: Launcher, tmp_path: Path) -> None:
    """Two of each signal; twenty in full."""
    check(COMMANDS[name], tmp_path, moments=size(8, 20), seed=7, starter=launcher)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_parts_are_imported_is_one_line(
    sent: signal.Signals, tmp_path: Path
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
    process.send_signal(sent)
    _, said = process.communicate(timeout=30)
    if sent is signal.SIGINT:
        assert (process.returncode, said) == (130, "tailbound: interrupted\n")
    else:
        assert (process.returncode, said) == (-sent, "")


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
