"""Faults at twenty random moments each: disks, servers, clocks, two drivers, a judge that hangs.

After each fault the same command is repeated. The ledger and the risks must then be those of a run
that nobody disturbed, with no draw lost or counted twice; until then a run stops with everything
kept that was finished, and an error of one line. (Signals to processes: `test_signals.py`.)
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tailbound
from endpoint.stub import Faults, Stub
from sizes import size
from tailbound.audit import Progress, audit
from tailbound.core.contract import Verdict
from tailbound.core.outside import visible
from tailbound.errors import LedgerError, RunLockedError, TailboundError, TargetError
from tailbound.judges import Exchange
from tailbound.runs import history, shards
from tailbound.targets.endpoint import target
from tailbound.testing import KnownRiskTarget, WordJudge

pytestmark = pytest.mark.faults

MOMENTS = 20
SERVED = size(5, 20)
"""Moments of faults of servers and judges, whose runs take longer."""
DRAWS, SERVED_DRAWS = 60, 20
RISKS = {"a": 0.4, "b": 0.1, "c": 0.02, "question d": 0.3}
PROMPTS = [{"id": name, "prompt": f"question {name}"} for name in RISKS]
KEY = ["stream", "prompt_id", "index"]
KEPT = ["text", "token_ids", "score", "reason", "finish_reason"]


def run(out: Path, **options: Any) -> Any:
    """The run whose ledger and risks are compared."""
    given: dict[str, Any] = {
        "target": KnownRiskTarget(RISKS),
        "judge": WordJudge(),
        "draws": DRAWS,
        "proposal": "none",
        "progress": None,
    }
    return tailbound.risk(PROMPTS, out=out, **{**given, **options})


def ledger(out: Path) -> pl.DataFrame:
    """Every draw on record; none is there twice."""
    frame = tailbound.load_run(out).draws.sort(KEY)
    assert not frame.select(KEY).is_duplicated().any()
    return frame.select(*KEY, *KEPT)


def kept(out: Path, whole: pl.DataFrame) -> int:
    """How many draws are on record after a fault: each as in the undisturbed run."""
    if not list(out.glob("draws/part-*.parquet")):
        return 0
    frame = ledger(out)
    assert frame.equals(whole.join(frame.select(KEY), on=KEY, how="semi").sort(KEY))
    return frame.height


def same(out: Path, straight: Path) -> None:
    """Ledger and risks are those of the undisturbed run."""
    assert ledger(out).equals(ledger(straight))
    one, two = (json.loads((folder / "risk.json").read_text()) for folder in (out, straight))
    assert one["prompts"] == two["prompts"]
    assert one["set"] == two["set"]
    assert not list(out.rglob(".*.tmp"))


def one_line(error: BaseException) -> None:
    said = str(error)
    assert said
    assert visible(said) == said


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    run(folder)
    return folder


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few draws, so that a moment can fall between two of them."""
    before = shards.ShardWriter.__init__

    def small(self: Any, *given: Any, flush_rows: int, flush_seconds: float) -> None:
        before(self, *given, flush_rows=16, flush_seconds=flush_seconds)

    monkeypatch.setattr(shards.ShardWriter, "__init__", small)
    monkeypatch.setattr(audit, "_REPORT_SECONDS", 0.0)  # or a quick run is over before it is told


# --- a full disk ------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, room: int) -> Iterator[Callable[[], None]]:
    """A disk with `room` bytes left; what is yielded makes room.

    Where nothing may be mounted, no file may be longer than a part of `room` instead.
    """
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room // 8, hard))
        try:
            yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        return
    try:
        filler = place / "filler"
        filler.write_bytes(bytes(2**21 - 4096 * (room // 4096 + 1)))
        yield filler.unlink
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def test_a_full_disk(straight: Path, tmp_path: Path) -> None:
    rng, whole, stopped, most = random.Random(1), ledger(straight), 0, 0
    for number in range(MOMENTS):
        disk = tmp_path / str(number)
        with small_disk(disk, rng.randrange(4096, 160_000)) as make_room:
            out = disk / "run"
            try:
                run(out)
            except LedgerError as error:
                stopped += 1
                one_line(error)
                assert not list(out.rglob(".*.tmp"))
            make_room()
            most = max(most, kept(out, whole)) if stopped else most
            run(out)
            same(out, straight)
    assert stopped >= 0.7 * MOMENTS
    assert most >= 16


# --- servers ----------------------------------------------------------------------------------


def asked(stub: Stub, **more: Any) -> dict[str, Any]:
    return {
        "target": "openai:m",
        "judge": "regex:boat|fish",
        "base_url": stub.url,
        "concurrency": 4,
        "max_new_tokens": 30,
        "draws": SERVED_DRAWS,
        **more,
    }


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Short waits; the times that a test may change."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    times: dict[str, Any] = target.load.__kwdefaults__
    monkeypatch.setitem(times, "first_wait", 0.02)
    monkeypatch.setitem(times, "retry_timeout", 20.0)
    return times


def at_draw(number: int, act: Callable[[], object]) -> Callable[[object], None]:
    """A callback that acts once, when so many draws are on record."""
    left = [act]

    def heard(event: object) -> None:
        if left and isinstance(event, Progress) and event.draws >= number:
            left.pop()()

    return heard


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "run"
    with Stub(Faults(model="one")) as stub:
        run(folder, **asked(stub))
    return folder


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back(
    served: Path, tmp_path: Path, patient: dict[str, Any]
) -> None:
    rng = random.Random(2)
    for number in range(SERVED):
        with Stub(Faults(model="one", delay=0.001)) as stub:
            timers: list[threading.Timer] = []

            def die(stub: Stub = stub, timers: list[threading.Timer] = timers) -> None:
                stub.die()
                timers.append(threading.Timer(0.1, stub.come_back))
                timers[0].start()

            out = tmp_path / str(number)
            run(out, **asked(stub), progress=at_draw(rng.randrange(1, 50), die))
            timers[0].join()
            same(out, served)


@pytest.mark.slow
def test_a_server_that_stays_away(served: Path, tmp_path: Path, patient: dict[str, Any]) -> None:
    rng, whole, most = random.Random(3), ledger(served), 0
    for number in range(SERVED):
        with Stub(Faults(model="one", delay=0.001)) as stub:
            out = tmp_path / str(number)
            patient["retry_timeout"] = 0.1
            with pytest.raises(TargetError, match="gave no answer") as stopped:
                run(out, **asked(stub), progress=at_draw(rng.randrange(1, 50), stub.die))
            one_line(stopped.value)
            most = max(most, kept(out, whole))
            patient["retry_timeout"] = 20.0
            stub.come_back()
            run(out, **asked(stub))
            same(out, served)
    assert most > 20


@pytest.mark.slow
def test_a_server_that_comes_back_with_another_model(
    served: Path, tmp_path: Path, patient: dict[str, Any]
) -> None:
    rng, whole = random.Random(4), ledger(served)
    for number in range(SERVED):
        with Stub(Faults(model="one", delay=0.001)) as stub:
            out = tmp_path / str(number)

            def changed(stub: Stub = stub) -> None:
                stub.die()
                stub.faults = Faults(model="two")
                stub.come_back()

            with pytest.raises(TargetError, match="was 'one' and is now 'two'") as stopped:
                run(out, **asked(stub), progress=at_draw(rng.randrange(1, 50), changed))
            one_line(stopped.value)
            kept(out, whole)
            with pytest.raises(TailboundError, match="holds a run"):  # not with the other model
                run(out, **asked(stub))
            stub.faults = Faults(model="one")
            run(out, **asked(stub))
            same(out, served)


# --- clocks -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_clocks_that_jump(
    straight: Path, served: Path, tmp_path: Path, patient: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The time of day jumps by years, and the other clock ahead, as after a machine's sleep."""
    rng, ahead, jumps = random.Random(5), [0.0], [True]
    real, day = time.monotonic, time.time

    def monotonic() -> float:
        if jumps[0] and rng.random() < 0.002:
            ahead[0] += rng.choice((0.5, 60.0, 86_400.0))
        return real() + ahead[0]

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz or UTC) + timedelta(days=rng.randrange(-9_000, 9_000))

    monkeypatch.setattr(time, "monotonic", monotonic)
    monkeypatch.setattr(time, "time", lambda: day() + rng.uniform(-1e9, 1e9))
    monkeypatch.setattr(history, "datetime", Jumping)
    for number in range(MOMENTS):
        out = tmp_path / str(number)
        run(out)
        same(out, straight)
    with Stub(Faults(model="one", failing=0.1)) as stub:
        out = tmp_path / "served"
        for _ in range(SERVED):
            try:
                run(out, **asked(stub))
            except TargetError as error:  # the wait of a request seems to be over
                one_line(error)
        stub.faults.failing, jumps[0] = 0.0, False
        run(out, **asked(stub))
        same(out, served)


# --- two drivers ------------------------------------------------------------------------------


def drive(out: Path, gate: threading.Barrier, errors: list[BaseException]) -> None:
    gate.wait()
    try:
        run(out)
    except BaseException as error:
        errors.append(error)


@pytest.mark.slow
def test_two_drivers(straight: Path, tmp_path: Path) -> None:
    """One of two that begin at once writes; the other is refused, and repeated ends the same."""
    whole, refused = ledger(straight), 0
    for number in range(SERVED):
        out, gate = tmp_path / str(number), threading.Barrier(2)
        errors: list[BaseException] = []
        threads = [threading.Thread(target=drive, args=(out, gate, errors)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) <= 1, errors
        for error in errors:
            assert isinstance(error, RunLockedError), error
            one_line(error)
            refused += 1
        assert kept(out, whole) == whole.height
        run(out)
        same(out, straight)
    assert refused > 0


# --- judges -----------------------------------------------------------------------------------


class Hanging(WordJudge):
    """Stands still at one of its batches until it is let go."""

    def __init__(self, at: int) -> None:
        super().__init__()
        object.__setattr__(self, "at", at)
        object.__setattr__(self, "hangs", threading.Event())
        object.__setattr__(self, "go", threading.Event())
        object.__setattr__(self, "left", [at])

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        left: list[int] = self.left  # type: ignore[attr-defined]
        left[0] -= len(exchanges)
        if left[0] < 0:
            self.hangs.set()  # type: ignore[attr-defined]
            self.go.wait(30)  # type: ignore[attr-defined]
        return super().judge(exchanges)


def interrupt(judge: Any) -> None:
    """What Ctrl-C does, once the judge hangs."""
    assert judge.hangs.wait(20)
    time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_a_judge_that_hangs(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts the run keeps what is judged; another judge of that name goes on."""
    monkeypatch.setattr(audit, "GRACE_SECONDS", 0.05)
    rng, whole, most = random.Random(6), ledger(straight), 0
    for number in range(SERVED):
        out, judge = tmp_path / str(number), Hanging(rng.randrange(1, 200))
        thread = threading.Thread(target=interrupt, args=(judge,))
        thread.start()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run(out, judge=judge)
        finally:
            signal.signal(signal.SIGINT, before)
            judge.go.set()  # type: ignore[attr-defined]
            thread.join()
        most = max(most, kept(out, whole))
        run(out)
        same(out, straight)
    assert most >= 32
