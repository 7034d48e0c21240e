"""Runs by workers give what runs in one process give, also when workers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tailbound
from executors.results import assert_close
from tailbound.audit import Progress
from tailbound.demo.files import default_prompts
from tailbound.errors import TargetError, UsageError
from tailbound.executors import pool as pool_module
from tailbound.executors import processes, working
from tailbound.executors.processes import ProcessCarrier
from tailbound.runs import read
from tiny_classifiers import MANY, save

SAME = ("stream", "prompt_id", "index", "token_ids", "text", "score", "proposal")


def bound(folder: Path, **more: Any) -> None:
    tailbound.bound(
        default_prompts(60),
        out=folder,
        budget=10,
        train_draws=20,
        test_draws=20,
        **{"progress": None, **more},
    )


def risk(folder: Path, **more: Any) -> None:
    tailbound.risk(
        default_prompts(3),
        out=folder,
        draws=200,
        proposal="refusal",
        **{"progress": None, **more},
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both jobs by one process."""
    folder = tmp_path_factory.mktemp("alone")
    bound(folder / "bound")
    risk(folder / "risk")
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ProcessCarrier]]:
    """The worker processes, in the order in which they were started."""
    found: list[ProcessCarrier] = []
    original = processes.ProcessCarrier.__init__

    def noted(self: ProcessCarrier, environment: dict[str, str]) -> None:
        original(self, environment)
        found.append(self)

    monkeypatch.setattr(processes.ProcessCarrier, "__init__", noted)
    yield found
    for one in found:
        with pytest.raises(ProcessLookupError):
            os.kill(one.pid, 0)


def kills(started: list[ProcessCarrier], stream: str, draws: int) -> Callable[[Any], None]:
    """Kills the first worker once so many draws of a stream are finished."""
    killed = []

    def look(event: Any) -> None:
        if isinstance(event, Progress) and event.stream == stream and event.draws >= draws:
            if not killed:
                os.kill(started[0].pid, signal.SIGKILL)
            killed.append(True)

    return look


def assert_same(folder: Path, alone: Path, document: str) -> None:
    """The same results, and the same draws wherever both runs have one.

    Bounds to the byte. Risks up to rounding: last digits of log-probabilities depend on what was
    read together, and that on which worker was first.
    """
    if document == "bound.json":
        assert (folder / document).read_bytes() == (alone / document).read_bytes()
    else:
        assert_close(folder / document, alone / document)
    keys = ["stream", "prompt_id", "index"]
    ours, theirs = read(folder).select(SAME), read(alone).select(SAME)
    assert not ours.select(keys).is_duplicated().any()
    both = ours.join(theirs, on=keys, suffix="_alone", nulls_equal=True)
    # draws behind an event that was not known yet depend on how many are under way
    assert len(both) > 0.8 * len(theirs)
    for name in SAME[3:]:
        assert both[name].to_list() == both[f"{name}_alone"].to_list(), name


def test_two_workers_give_what_one_process_gives(
    alone: Path, tmp_path: Path, started: list[ProcessCarrier]
) -> None:
    bound(tmp_path / "bound", workers=2)
    assert len(started) == 2
    assert_same(tmp_path / "bound", alone / "bound", "bound.json")
    risk(tmp_path / "risk", workers=2)
    assert_same(tmp_path / "risk", alone / "risk", "risk.json")


@pytest.mark.slow
@pytest.mark.parametrize("job", ["bound", "risk"])
def test_a_worker_that_is_killed_is_started_again_and_no_draw_is_lost(
    job: str, alone: Path, tmp_path: Path, started: list[ProcessCarrier]
) -> None:
    run, stream = (bound, "train") if job == "bound" else (risk, "risk")
    run(tmp_path / "run", workers=2, progress=kills(started, stream, 100))
    assert len(started) == 3
    assert_same(tmp_path / "run", alone / job, f"{job}.json")


@pytest.mark.slow
def test_a_run_by_workers_continues_one_by_this_process(
    alone: Path, tmp_path: Path, started: list[ProcessCarrier]
) -> None:
    class StoppedError(Exception):
        pass

    def stop(event: Any) -> None:
        if isinstance(event, Progress) and event.draws >= 300:
            raise StoppedError

    with pytest.raises(StoppedError):
        bound(tmp_path / "run", progress=stop)
    with pytest.raises(StoppedError):
        bound(tmp_path / "run", workers=2, progress=stop)
    bound(tmp_path / "run", workers=2)
    assert_same(tmp_path / "run", alone / "bound", "bound.json")


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_workers_end_with_a_run_that_is_killed_and_no_draw_is_lost(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "run"
    lines = [json.dumps({"id": one.id, "prompt": one.text}) for one in default_prompts(60)]
    prompts.write_text("\n".join(lines))
    line = [sys.executable, "-m", "tailbound", "bound", prompts, "--out", out, "--budget", 10]
    line += ["--train-draws", 20, "--test-draws", 20, "--workers", 2]
    with subprocess.Popen([*map(str, line)], stderr=subprocess.DEVNULL) as run:
        until = time.monotonic() + 120
        while not list((out / "draws").glob("*.parquet")):
            assert time.monotonic() < until
            assert run.poll() is None
            time.sleep(0.05)
        workers = children(run.pid)
        assert len(workers) == 2
        run.kill()
    until = time.monotonic() + 20
    while not all(map(gone, workers)):
        assert time.monotonic() < until, "a worker outlived its run"
        time.sleep(0.05)
    kept = len(read(out))
    assert kept > 0
    done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not read(out).select("stream", "prompt_id", "index").is_duplicated().any()
    tailbound.bound(
        prompts,
        out=tmp_path / "alone",
        budget=10,
        train_draws=20,
        test_draws=20,
        progress=None,
    )
    assert_same(out, tmp_path / "alone", "bound.json")


def test_a_worker_that_always_dies_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        working, "environments", lambda workers: [{"PYTHONPATH": str(tmp_path)}] * workers
    )
    # something that every interpreter imports at its start, and that ends it
    (tmp_path / "sitecustomize.py").write_text("import os; os._exit(7)")
    with pytest.raises(TargetError, match=r"died 3 times in a row \(exit code 7\)") as caught:
        bound(tmp_path / "run", workers=2)
    assert "\n" not in str(caught.value)


def test_workers_that_load_another_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pool_module.WorkerPool.__init__

    def other(self: Any, launch: Any, workers: int, loading: Any, **more: Any) -> None:
        original(self, launch, workers, loading, **{**more, "contract": "0" * 16})

    monkeypatch.setattr(pool_module.WorkerPool, "__init__", other)
    with pytest.raises(TargetError, match="loaded another model"):
        bound(tmp_path / "run", workers=1, executor="processes")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers must be between 1 and 4,096, not 0"),
        ({"workers": 2, "executor": "local"}, "--executor local is this process alone"),
        ({"address": "auto"}, "add --executor ray"),
        ({"executor": "threads"}, "--executor must be one of local, processes, ray"),
        (
            {"workers": 2, "target": "openai:x", "base_url": "http://127.0.0.1:9/v1"},
            "use --concurrency",
        ),
    ],
)
def test_what_workers_cannot_do_is_refused_before_anything_is_loaded(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bound(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_target_that_is_an_object_has_no_workers(tmp_path: Path) -> None:
    target = tailbound.load_target("demo")
    with pytest.raises(UsageError, match="workers load the target by its name"):
        bound(tmp_path / "run", target=target, workers=2)


def test_every_worker_has_its_share_of_the_cores_and_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert processes.environments(2) == [
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "3"},
        {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "5"},
    ]
    with pytest.raises(UsageError, match="more than the 2 GPUs"):
        processes.environments(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert processes.environments(16) == [{"OMP_NUM_THREADS": "1"}] * 16


@pytest.mark.slow
def test_a_judge_that_runs_a_model_judges_in_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[ProcessCarrier]
) -> None:
    judge = f"classifier:{save(tmp_path / 'model', **MANY)}?label=toxic"
    asked = []
    original = ProcessCarrier.call

    def noted(self: ProcessCarrier, method: str, *arguments: Any) -> Any:
        asked.append(method)
        return original(self, method, *arguments)

    monkeypatch.setattr(ProcessCarrier, "call", noted)
    for name, workers in (("alone", 1), ("workers", 2)):
        tailbound.risk(
            default_prompts(4), out=tmp_path / name, judge=judge, draws=50, proposal="none",
            progress=None, workers=workers,
        )  # fmt: skip
    assert asked.count("judge") >= 2
    keys = ["prompt_id", "index"]
    ours, theirs = (
        read(tmp_path / name).select(*keys, "token_ids", "score").sort(keys)
        for name in ("workers", "alone")
    )
    assert ours.drop("score").equals(theirs.drop("score"))
    assert (ours["score"] - theirs["score"]).abs().max() < 1e-6  # type: ignore[operator]
