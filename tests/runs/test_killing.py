"""Real processes, killed at real moments."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runs.writer import make_verdict, open_ledger
from sizes import size
from tailbound.errors import RunLockedError
from tailbound.runs import index, read

WRITER = Path(__file__).with_name("writer.py")
PROMPTS = 7


def start(folder: Path, draws: int) -> subprocess.Popen[str]:
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(WRITER), str(folder), str(PROMPTS), str(draws)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def promised(output: str, before: int) -> int:
    """Draws that the writer said were on the disk; a last line without its end was cut off."""
    lines = [line for line in output.split("\n")[:-1] if line.isdigit()]
    return int(lines[-1]) if lines else before


def check(folder: Path, *, at_least: int) -> int:
    """Everything on record is whole, right and there once; returns how many draws there are."""
    table = read(folder)
    keys = table.select("prompt_id", "index")
    assert keys.n_unique() == len(table) >= at_least
    for prompt, number, text, tokens, score in table.select(
        "prompt_id", "index", "text", "token_ids", "score"
    ).iter_rows():
        which = int(prompt[1:])
        assert text == f"{which} {number}"
        assert tokens == [which, number, 0]
        assert score == make_verdict(which, number).score
    return len(table)


def kill_again_and_again(folder: Path, *, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    draws = 1_000_000
    have = 0
    for _ in range(kills):
        writer = start(folder, draws)
        assert writer.stdout is not None
        output = "".join(writer.stdout.readline() for _ in range(rng.randrange(5)))
        time.sleep(rng.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        # not `communicate`: it does not see what `readline` has read ahead
        output += writer.stdout.read()
        writer.stdout.close()
        writer.wait(timeout=30)
        found = check(folder, at_least=promised(output, have))
        # A shard that was in place before its flush could be announced is kept as well.
        assert have <= found <= promised(output, have) + 16
        have = found
    assert have > 0
    more = have // PROMPTS + 10
    writer = start(folder, more)
    writer.communicate(timeout=120)
    assert writer.returncode == 0
    assert check(folder, at_least=PROMPTS * more) == PROMPTS * more
    for record in index(folder, "s").values():
        assert record.indices.tolist() == list(range(1, more + 1))


def test_sigkill_loses_at_most_the_unfinished_batch(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, kills=20, seed=1)


@pytest.mark.slow
def test_sigkill_many_times(tmp_path: Path) -> None:
    for seed in range(size(3, 10)):
        kill_again_and_again(tmp_path / str(seed), kills=30, seed=seed)


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    writer = start(tmp_path, 10**9)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(RunLockedError, match=rf"another process \(pid {writer.pid}\)"):
            open_ledger(tmp_path)
        read(tmp_path)
    finally:
        writer.kill()
        writer.communicate(timeout=30)
    open_ledger(tmp_path).close()
