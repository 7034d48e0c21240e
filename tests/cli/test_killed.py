"""Real processes killed with SIGKILL, then started again."""

from __future__ import annotations

import json
import time
from pathlib import Path

import polars as pl
import pytest

from processes import Launcher
from sizes import size
from tailbound.demo.files import default_prompts

KEY = ["stream", "prompt_id", "index"]


def command(prompts: Path, out: Path, *, batch_size: int, budget: int, train: int) -> list[str]:
    return [
        *("bound", str(prompts), "--out", str(out), "--json"),
        *("--max-new-tokens", "32", "--batch-size", str(batch_size), "--budget", str(budget)),
        *("--train-draws", str(train), "--test-draws", "200"),
    ]


def run_and_kill(launcher: Launcher, line: list[str], out: Path, draws: int) -> bool:
    """Kill the process once it has `draws` more draws on record; False if it ended before."""

    def recorded() -> int:
        shards = list((out / "draws").glob("part-*.parquet"))
        return sum(pl.scan_parquet(s).select(pl.len()).collect().item() for s in shards)

    before = recorded()
    process = launcher.start(*line)
    try:
        while process.running:
            if recorded() >= before + draws:
                return True
            time.sleep(0.05)
    finally:
        process.kill()
    return False


def same_results(one: Path, two: Path) -> None:
    for name in ("bound.json", "evaluation.json"):
        assert (one / name).read_text() == (two / name).read_text()
    frames = [pl.read_parquet(folder / "predictions.parquet") for folder in (one, two)]
    assert frames[0].equals(frames[1])
    draws = [pl.read_parquet(folder / "draws") for folder in (one, two)]
    for frame in draws:
        assert not frame.select(KEY).is_duplicated().any()
    both = draws[0].join(draws[1], on=KEY, suffix="_two")
    # Draws beyond an event that was not yet known differ between batch sizes; no other does.
    assert both.height >= 0.9 * min(draws[0].height, draws[1].height)
    trained = [frame.filter(pl.col("stream") == "train").height for frame in draws]
    assert trained[0] == trained[1] == both.filter(pl.col("stream") == "train").height
    assert (both["token_ids"] == both["token_ids_two"]).all()
    assert (both["score"] == both["score_two"]).all()
    assert ((both["log_prob"] - both["log_prob_two"]).abs() < 1e-4).all()


def compare(
    launcher: Launcher, folder: Path, *, prompts: int, budget: int, train: int, every: int
) -> int:
    """One run straight through, one killed three times; the tokens of the first."""
    file = folder / "prompts.jsonl"
    chosen = default_prompts(prompts)
    file.write_text("".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in chosen))
    straight, killed = folder / "straight", folder / "killed"
    first = command(file, straight, batch_size=256, budget=budget, train=train)
    done = launcher.run(*first, timeout=1800)
    assert done.returncode == 0, done.stderr
    line = command(file, killed, batch_size=173, budget=budget, train=train)
    kills = sum(run_and_kill(launcher, line, killed, every) for _ in range(3))
    assert kills == 3
    done = launcher.run(*line, timeout=1800)
    assert done.returncode == 0, done.stderr
    same_results(straight, killed)
    return int(pl.read_parquet(straight / "draws")["tokens"].sum())


def test_a_run_killed_three_times_ends_with_the_same_results(tmp_path, launcher):
    compare(launcher, tmp_path, prompts=150, budget=12, train=40, every=800)


@pytest.mark.slow
def test_a_long_run_killed_three_times_ends_with_the_same_results(tmp_path, launcher):
    """A quarter of a million tokens, in dozens of shards; in full five million."""
    tokens = compare(
        launcher,
        tmp_path,
        prompts=size(300, 1100),
        budget=size(60, 330),
        train=size(100, 800),
        every=size(4_000, 60_000),
    )
    assert tokens >= size(250_000, 5_000_000)


def test_a_second_process_on_the_folder_is_refused(tmp_path, launcher):
    file = tmp_path / "prompts.jsonl"
    chosen = default_prompts(150)
    file.write_text("".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in chosen))
    out = tmp_path / "run"
    line = command(file, out, batch_size=64, budget=500, train=2000)
    first = launcher.start(*line)
    try:
        while not list((out / "draws").glob("part-*")):
            assert first.running
            time.sleep(0.05)
        second = launcher.run(*line)
        assert second.returncode == 2
        assert str(first.pid) in second.stderr
    finally:
        first.kill()
