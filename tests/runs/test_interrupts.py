"""Signals at the worst moment: between a shard in its place and the memory that says so."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runs.writer import make_draw, make_verdict, open_ledger
from tailbound.core.interrupts import uninterrupted
from tailbound.runs import read, shards
from tailbound.workflows.rejudge.verdicts import VerdictWriter, read_verdicts, verdicts_folder


@pytest.mark.parametrize("writer", ["ledger", "verdicts"])
def test_an_interrupt_just_after_a_shard_does_not_write_its_rows_twice(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shards.write_sealed

    def write_and_be_told(*args: object, **names: object) -> None:
        plain(*args, **names)  # type: ignore[arg-type]
        monkeypatch.setattr(shards, "write_sealed", plain)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(shards, "write_sealed", write_and_be_told)
    if writer == "ledger":
        ledger = open_ledger(tmp_path)
        ledger.append(make_draw(1, 1), make_verdict(1, 1), "fixed")
        with pytest.raises(KeyboardInterrupt):
            ledger.flush()
        ledger.close()
        assert read(tmp_path).height == 1
    else:
        open_ledger(tmp_path).close()
        home = verdicts_folder(tmp_path, "j@1")
        verdicts = VerdictWriter(home, judge="j", judge_id="j@1")
        verdicts.append(("s", "p", 1), make_verdict(1, 1))
        with pytest.raises(KeyboardInterrupt):
            verdicts.flush()
        verdicts.close()
        assert read_verdicts(home).height == 1


def test_what_waited_is_told_and_handlers_are_back() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            assert received == []
        assert received == [signal.SIGTERM]
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_without_a_handler_is_still_ended() -> None:
    code = (
        "import signal\nfrom tailbound.core.interrupts import uninterrupted\n"
        "with uninterrupted():\n"
        "    signal.raise_signal(signal.SIGTERM); print('inside', flush=True)\nprint('after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("inside\n", -signal.SIGTERM)


def test_other_threads_have_nothing_to_wait_for() -> None:
    inside = []

    def work() -> None:
        with uninterrupted():
            inside.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]
