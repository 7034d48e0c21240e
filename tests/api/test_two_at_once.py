"""Runs in several threads, in an event loop, and callbacks that fail."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import tailbound
from tailbound.audit import Progress

PROMPTS = ["how do i clean the pie", "how do i bake the car"]
SMALL: dict[str, Any] = {"draws": 20, "proposal": "none", "max_new_tokens": 8}


def judge(response: str) -> bool:
    return len(response) > 10


def test_two_runs_in_two_threads_keep_their_own_account_and_callback(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    tailbound.risk(PROMPTS, out=alone, judge=judge, progress=None, **SMALL)
    expected = {
        name: (work.draws, work.tokens)
        for name, work in tailbound.load_run(alone).spend.stages.items()
    }
    heard: dict[int, list[Any]] = {0: [], 1: []}
    gate = threading.Barrier(2)

    def run(number: int) -> None:
        gate.wait()
        tailbound.risk(
            PROMPTS, out=tmp_path / str(number), judge=judge, progress=heard[number].append,
            **SMALL,
        )  # fmt: skip

    threads = [threading.Thread(target=run, args=(number,)) for number in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, events in heard.items():
        stages = tailbound.load_run(tmp_path / str(number)).spend.stages
        assert {name: (w.draws, w.tokens) for name, w in stages.items()} == expected
        assert max(one.draws for one in events if isinstance(one, Progress)) == 40
    assert abs(len(heard[0]) - len(heard[1])) < len(heard[0]) / 2


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_a_callback_that_raises_ends_the_run_which_can_be_resumed(
    tmp_path: Path, error: BaseException
) -> None:
    def fails(event: object) -> None:
        if isinstance(event, Progress) and event.draws:
            raise error

    with pytest.raises(type(error)):
        tailbound.risk(PROMPTS, out=tmp_path / "run", progress=fails, **SMALL)
    heard: list[Any] = []
    result = tailbound.risk(PROMPTS, out=tmp_path / "run", progress=heard.append, **SMALL)
    assert sum(risk.estimate.draws for risk in result.risks) == 40


def test_a_run_inside_an_event_loop(tmp_path: Path) -> None:
    async def cell() -> Any:
        return tailbound.risk(PROMPTS, out=tmp_path / "run", progress=None, **SMALL)

    assert len(asyncio.run(cell()).risks) == 2
