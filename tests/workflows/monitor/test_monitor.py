"""`tailbound monitor` on real run folders: files, streams, repeats, units, wrong input, kills."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import tailbound
from tailbound.demo.files import default_prompts
from tailbound.errors import LedgerError, UsageError
from tailbound.monitoring import EProcess, advance, mean_factors
from tailbound.runs.layout import MONITOR
from tailbound.storage.documents import read_json
from tailbound.storage.files import write_json
from tailbound.workflows.monitor.outcomes import streamed_outcomes
from tailbound.workflows.monitor.state import read_monitor, write_monitor

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def risks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain draws of five prompts in two groups, so that every prompt has an exact upper limit."""
    folder = tmp_path_factory.mktemp("risk") / "run"
    prompts = [
        {"id": f"p{number}", "prompt": one.text, "group": "ab"[number % 2]}
        for number, one in enumerate(default_prompts(5))
    ]
    tailbound.risk(prompts, out=folder, draws=60, proposal="none", progress=None)
    return folder


@pytest.fixture(scope="module")
def bounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bound") / "run"
    prompts = [{"prompt": one.text, "p_hat": 0.02} for one in default_prompts(60)]
    tailbound.bound(prompts, out=folder, budget=10, test_draws=10, progress=None)
    return folder


@pytest.fixture
def run(risks: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(risks, tmp_path / "run"))


def lines(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


SAFE = [{"prompt_id": f"p{number % 5}", "draws": 20, "unsafe": 0} for number in range(100)]
WORSE = [{"prompt_id": "p3", "draws": 20, "unsafe": 12} for _ in range(30)]


def test_nothing_new_is_counted_twice_and_what_is_added_is_counted(
    run: Path, tmp_path: Path, cli: Cli
) -> None:
    file = lines(tmp_path / "log.jsonl", SAFE)
    code, out, _ = cli("monitor", run, file)
    assert code == 0
    assert out.startswith("update 1: 100 outcomes, 2,000 draws, 0 unsafe; evidence 0.")
    assert "no alarm" in out
    before = (run / MONITOR).read_bytes()
    code, out, _ = cli("monitor", run, file)
    assert (code, out.splitlines()[0]) == (0, "nothing new: 100 outcomes counted earlier")
    assert (run / MONITOR).read_bytes() == before
    lines(file, SAFE + WORSE)
    code, out, _ = cli("monitor", run, file)
    assert code == 3
    assert out.startswith("update 2: 30 outcomes, 600 draws, 360 unsafe (100 outcomes counted")
    assert "  prompt p3: 360 unsafe of 1,000 draws; the rise began at about outcome 21 " in out
    assert f"({file} line 10" in out
    once = tailbound.load_run(run).monitoring
    assert once is not None
    assert once.alarm is not None
    # in one piece it is the same
    (run / MONITOR).unlink()
    whole = tailbound.monitor(run, file)
    assert whole.alarm is not None
    assert whole.alarm.place == once.alarm.place
    assert whole.e_value == pytest.approx(once.e_value, rel=1e-9)
    assert [one.alarm for one in whole.units] == [one.alarm for one in once.units]
    # a file that was replaced by another one is all new
    lines(file, SAFE[:7])
    assert tailbound.monitor(run, file).outcomes == 137


def test_an_alarm_stays(run: Path, cli: Cli) -> None:
    assert tailbound.monitor(run, WORSE).alarm is not None
    for outcomes in ((), (lines(run.parent / "safe.jsonl", SAFE),)):
        code, out, err = cli("monitor", run, *outcomes)
        assert (code, err) == (3, "")
        assert "ALARM at outcome " in out
    code, out, _ = cli("monitor", run, "--json")
    document = json.loads(out)
    assert code == 3
    assert document["alarm"]["update"] == 1
    assert document["outcomes"] == 130
    assert [unit["alarm"] is not None for unit in document["units"] if unit["name"] == "p3"] == [
        True
    ]


def test_prompts_without_a_value_of_their_own_are_one_unit_against_the_value_of_the_set(
    run: Path,
) -> None:
    new = [{"prompt": f"n{k}", "draws": 4, "unsafe": k} for k in (0, 1, 2)]
    assert tailbound.monitor(run, new).unused == 3  # the set has no interval
    (run / MONITOR).unlink()
    document = read_json(run / "risk.json")
    document["set"]["interval"] = [0.001, 0.02]
    document["prompts"][3]["interval"] = [0.0001, 0.03]
    write_json(run / "risk.json", document)
    found = tailbound.monitor(run, [*new, {"prompt_id": "p3", "draws": 4, "unsafe": 0}])
    units = {(one.kind, one.name): one for one in found.units}
    assert set(units) == {("overall", ""), ("other", ""), ("prompt", "p3")}
    assert found.unused == 0
    factors = mean_factors([0.02] * 3, value=[0, 0.25, 0.5])
    process, _ = advance(EProcess(), factors, allowed=[0.02] * 3)
    assert units["other", ""].process.e_value == pytest.approx(process.e_value)
    assert units["prompt", "p3"].process.allowed == pytest.approx(0.12)
    # prompts that are not resolved are compared with the set, too
    assert len(tailbound.monitor(run, [{"prompt_id": "p0", "draws": 4, "unsafe": 0}]).units) == 3
    assert "each of 1 audited prompts" in found.statement
    assert found.facts()["outcomes"] == 4
    assert found.frame().height == 3


@pytest.mark.parametrize("by", ["group", "overall"])
def test_groups_are_those_of_the_run_or_of_the_line(run: Path, by: str) -> None:
    records = [
        {"prompt_id": "p1", "draws": 5, "unsafe": 0},  # group b on record
        {"group": "fr", "draws": 5, "unsafe": 0},
        {"draws": 5, "unsafe": 0},
        {"group": "de\x1b[2J", "draws": 400, "unsafe": 200},
    ]
    found = tailbound.monitor(run, records, by=by, reference=0.05)
    units = {one.name: one for one in found.units}
    assert units[""].draws == 415
    if by == "overall":
        assert set(units) == {""}
        assert units[""].share == 1
        return
    assert set(units) == {"", "b", "fr", "de\x1b[2J"}
    assert [units[one].share for one in ("b", "fr", "de\x1b[2J")] == [0.125, 0.125, 0.25 / 6]
    assert {one.name for one in found.named} == {"", "de\x1b[2J"}


def test_names_from_outside_cannot_act_on_the_terminal(run: Path, cli: Cli) -> None:
    file = lines(run.parent / "a.jsonl", [{"group": "de\x1b[2J", "draws": 400, "unsafe": 200}])
    code, out, _ = cli("monitor", run, file, "--by", "group", "--reference", 0.05)
    assert code == 3
    assert "\x1b" not in out
    assert r"group de\x1b[2J: 200 unsafe" in out


def test_missing_verdicts_count_as_unsafe_and_are_reported(run: Path, cli: Cli) -> None:
    gone = [{"prompt_id": "p3", "draws": 20, "unsafe": 0, "missing": 12} for _ in range(30)]
    code, out, _ = cli("monitor", run, lines(run.parent / "a.jsonl", gone))
    assert code == 3
    assert "0 unsafe and 360 without a verdict" in out
    assert "360 without a verdict (counted as unsafe, as in the audit)" in out


def test_a_bound_is_monitored_by_its_promise(bounds: Path, tmp_path: Path, cli: Cli) -> None:
    run = Path(shutil.copytree(bounds, tmp_path / "run"))
    table = tailbound.load_run(run).predictions
    assert table is not None
    name = table["id"][0]
    records: list[dict[str, Any]] = [{"prompt_id": name, "draws": 10**6, "unsafe": 0}]
    records += [{"draws": 8, "unsafe": s, "lower_bound": 5} for s in (0, 1, 2, 0)]
    records += [{"draws": 2, "unsafe": 0, "lower_bound": 5}]
    found = tailbound.monitor(run, records)
    value = [0, 0, 1 / 2, 1 - 2 * 3 / (8 * 7) * 2, 0, 0]
    factors = mean_factors([0.1] * 6, value=value)
    process, _ = advance(EProcess(), factors, allowed=[0.1] * 6)
    assert found.e_value == pytest.approx(process.e_value)
    assert found.cut == 1
    assert "at most 0.1 of the prompts" in found.statement
    with pytest.raises(UsageError, match="outcome 1 has no bound: give the lower_bound"):
        tailbound.monitor(run, [{"prompt_id": "unknown", "draws": 1, "unsafe": 0}])
    (run / MONITOR).unlink()
    with pytest.raises(UsageError, match="--by prompt needs an audited value"):
        tailbound.monitor(run, [], by="prompt")
    late = [{"draws": 8, "unsafe": 8, "lower_bound": 5} for _ in range(20)]
    code, out, _ = cli("monitor", run, lines(tmp_path / "late.jsonl", late))
    assert code == 3
    assert "all outcomes: 160 unsafe of 160 draws" in out


def test_margins_and_given_references(run: Path) -> None:
    upper = read_json(run / "risk.json")["prompts"][3]["certified_upper"]
    one = [{"prompt_id": "p3", "draws": 100, "unsafe": 0}]
    audited = tailbound.monitor(run, one, margin=1.5)
    assert audited.units[0].process.allowed == pytest.approx(150 * upper)
    (run / MONITOR).unlink()
    given = tailbound.monitor(run, one, reference=0.01, margin=2, by="overall")
    assert given.units[0].process.allowed == pytest.approx(2)
    with pytest.raises(UsageError, match=r"monitored with --margin 2\.0, which may not change"):
        tailbound.monitor(run, one, margin=3)
    assert tailbound.monitor(run, one, margin=2).outcomes == 2


WRONG = {
    "counts": ('{"draws": 5, "unsafe": 7}', "7 unsafe exceed 5 draws"),
    "missing": ('{"draws": 5, "unsafe": 4, "missing": 2}', "4 unsafe + 2 missing exceed 5 draws"),
    "negative": ('{"draws": -5, "unsafe": 0}', "draws must be a whole number"),
    "half": ('{"draws": 5, "unsafe": 0.5}', "unsafe must be a whole number"),
    "huge": ('{"draws": 1e300, "unsafe": 0}', "draws must be a whole number from 0 to"),
    "digits": ('{"draws": %s, "unsafe": 0}' % ("9" * 5000), "a number is too long"),
    "nan": ('{"draws": NaN, "unsafe": 0}', "draws must be a whole number"),
    "true": ('{"draws": true, "unsafe": 0}', "draws must be a whole number"),
    "text": ('{"draws": "5", "unsafe": 0}', "draws must be a whole number"),
    "absent": ('{"draws": 5}', "has no 'unsafe'"),
    "list": ("[1, 2]", "is a list, not an object"),
    "junk": ("draws=5", "is not JSON"),
    "name": ('{"draws": 5, "unsafe": 0, "prompt": ["a"]}', "prompt must be a text"),
    "long": ('{"draws": 5, "unsafe": 0, "prompt": "%s"}' % ("a" * 201), "give the id"),
    "bound": ('{"draws": 5, "unsafe": 0, "lower_bound": 0}', "lower_bound is at least 1"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_line_is_one_line_and_names_its_place(
    wrong: str, stream: bool, run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, said = WRONG[wrong]
    text = f'{{"draws": 5, "unsafe": 0, "prompt_id": "p1"}}\n{line}\n'
    file = run.parent / "a.jsonl"
    file.write_text(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, _, err = cli("monitor", run, "-" if stream else file)
    assert code == 2
    assert said in err
    assert ("standard input line 2" if stream else f"{file} line 2") in err
    assert err.count("\n") == 1
    held = read_monitor(run)
    assert (held is None) == (not stream)  # a file counts as a whole, a stream up to there
    assert held is None or held.outcomes == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--alpha", "0"), "--alpha must lie in [1e-12, 1)"),
        (("--reference", "1"), "--reference must lie strictly between 0 and 1"),
        (("--margin", "0.5"), "--margin must lie in [1, 1e6]"),
        (("--by", "colour"), "--by must be one of prompt, group, overall"),
        (("--reference", "0.6", "--margin", "2"), "not below 1"),
    ],
)
def test_wrong_options(run: Path, cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = cli("monitor", run, *arguments)
    assert code == 2
    assert said in err


def test_folders_without_anything_audited(tmp_path: Path, cli: Cli) -> None:
    assert cli("monitor", tmp_path / "none")[0] == 2
    source = lines(tmp_path / "draws.jsonl", [{"prompt_id": "a", "response": "x", "score": 1.0}])
    tailbound.import_draws(source, tmp_path / "run", progress=None)
    code, _, err = cli("monitor", tmp_path / "run")
    assert code == 2
    assert "give --reference" in err
    found = tailbound.monitor(tmp_path / "run", [{"draws": 9, "unsafe": 9}], reference=0.01)
    assert found.alarm is not None
    code, _, err = cli("monitor", tmp_path / "run", tmp_path / "no-file.jsonl")
    assert code == 2
    assert "no file of outcomes" in err


def test_csv_and_parquet(run: Path) -> None:
    frame = pl.DataFrame([{**one, "missing": 0} for one in SAFE])
    frame.write_csv(run.parent / "a.csv")
    frame.write_parquet(run.parent / "a.parquet")
    counted = tailbound.monitor(run, run.parent / "a.csv")
    (run / MONITOR).unlink()
    again = tailbound.monitor(run, run.parent / "a.parquet")
    assert counted.e_value == again.e_value
    assert counted.draws == 2000
    (run.parent / "b.csv").write_text("draws,unsafe\n5,-1\n")
    with pytest.raises(UsageError, match=r"b\.csv.* unsafe must be a whole number"):
        tailbound.monitor(run, run.parent / "b.csv")


def test_a_damaged_state_is_never_read_and_a_full_one_is_read_back(run: Path) -> None:
    found = tailbound.monitor(run, SAFE + WORSE)
    assert read_monitor(run) == found
    assert found.to_dict() == {"schema": 1, **asdict(found)}
    assert list(found.to_dict()) == ["schema", *asdict(found)]
    path = run / MONITOR
    path.write_text(path.read_text().replace('"outcomes": 130', '"outcomes": 13'))
    with pytest.raises(LedgerError, match="damaged"):
        tailbound.monitor(run)
    write_monitor(run, found)
    text = json.loads(path.read_text())
    assert found.from_json(json.dumps({k: v for k, v in text.items() if k != "checksum"})) == found


def test_many_outcomes_of_many_prompts_are_quick(run: Path) -> None:
    records = [{"prompt_id": f"q{n % 3000}", "draws": 3, "unsafe": 0} for n in range(30_000)]
    start = time.process_time()
    found = tailbound.monitor(run, records, reference=0.01, by="prompt")
    assert len(found.units) == 3001
    assert time.process_time() - start < 20


def test_a_stream_is_counted_as_it_arrives_and_survives_a_kill(run: Path) -> None:
    command = [sys.executable, "-m", "tailbound", "monitor", str(run), "-"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for number in (1, 2):
            process.stdin.write('{"prompt_id": "p1", "draws": 5, "unsafe": 0}\n')
            process.stdin.flush()
            assert process.stdout.readline().startswith(f"update {number}: 1 outcomes, 5 draws")
        second = subprocess.run(command, input="", capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert "in use by another process" in second.stderr
        process.stdin.write('{"prompt_id": "p1", "dra')  # a line that is not complete
        process.stdin.flush()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    again = subprocess.run(
        [*command, "--stop-at-alarm"],
        input="".join(json.dumps(one) + "\n" for one in WORSE),
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 3
    assert again.stdout.startswith("update 3: ")
    held = read_monitor(run)
    assert held is not None
    assert held.draws == 10 + 600


def piped(*pieces: str) -> Any:
    """A reader of a real pipe, and what writes to it; the pieces are there already."""
    read, write = os.pipe()
    os.write(write, "".join(pieces).encode())
    return open(read, "rb"), open(write, "wb", buffering=0)


def test_slow_updates_gather_what_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update of .2 s leaves .8 s in which ten outcomes become one piece; the last is given."""
    line = '{"draws": 5, "unsafe": 0}\n'
    source, sink = piped(line)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))

    def write() -> None:
        for _ in range(10):
            sink.write(line.encode())
            time.sleep(0.02)
        sink.write(line.strip().encode())  # without the end of the line
        sink.close()

    writer = threading.Thread(target=write)
    sizes = []
    for found in streamed_outcomes():
        sizes.append(len(found))
        if len(sizes) == 1:
            writer.start()
            time.sleep(0.2)
    writer.join()
    source.close()
    assert sizes == [1, 11]


def test_quick_updates_gather_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"draws": 5, "unsafe": 0}\n'
    source, sink = piped(line)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
    pieces = streamed_outcomes()
    for number in range(5):
        assert [one.place for one in next(pieces)] == [f"standard input line {number + 1}"]
        sink.write(line.encode())
    pieces.close()
    sink.close()
    source.close()


def test_what_was_gathered_counts_when_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    line = '{"draws": 5, "unsafe": 0}\n'
    source, sink = piped(line)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=source))
    pieces = streamed_outcomes()
    next(pieces)
    time.sleep(0.2)
    sink.write(f"{line}{line}{line[:9]}".encode())

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("tailbound.workflows.monitor.outcomes.select.select", interrupted)
    assert len(next(pieces)) == 2
    with pytest.raises(KeyboardInterrupt):
        next(pieces)
    sink.close()
    source.close()
