"""`tailbound export`: what an Inspect log of a run holds, and that Inspect opens and shows it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import polars as pl
import pytest
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalSpec,
    list_eval_logs,
    read_eval_log,
    write_eval_log,
)

import tailbound
from tailbound.core.contract import Draw, SamplingContract, Verdict
from tailbound.errors import LedgerError, UsageError
from tailbound.intervals import clopper_pearson
from tailbound.runs import Ledger, read
from tailbound.runs.identity import read_identity
from tailbound.testing import KnownRiskTarget, WordJudge

Cli = Callable[..., tuple[int, str, str]]

WILD = "a/../b\n\x1b[2J"
HOSTILE = "<script>\x1b[31m\u202e[b]bold[/b]\x00 attachment://x data:image/png;base64,AAAA " * 3


def imported(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """A run folder with these draws; "\\ud800" in a prompt stays half a character."""
    table = folder / "table.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    tailbound.import_draws(table, folder / "run", progress=None)
    return folder / "run"


def logged(folder: Path, **options: Any) -> EvalLog:
    found = tailbound.export(folder, to="inspect", progress=None, **options)
    return read_eval_log(found.file, resolve_attachments=True)


def metrics(log: EvalLog, name: str) -> dict[str, float]:
    assert log.results is not None
    (score,) = (one for one in log.results.scores if one.name == name)
    return {name: one.value for name, one in score.metrics.items()}


def a_table(unsafe: int = 7, draws: int = 300, missing: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{number % 2}",
            "draw": number // 2 + 1,
            "prompt": f"why {number % 2}",
            "response": f"reply {number}",
            "score": None if number < missing else float(number < missing + unsafe),
        }
        for number in range(draws)
    ]


def test_every_unsafe_draw_and_a_stated_share_of_the_others(tmp_path: Path) -> None:
    run = imported(tmp_path, a_table())
    log = logged(run, safe=20)
    assert log.samples is not None
    said = Counter(sample.metadata["verdict"] for sample in log.samples)
    assert said == {"unsafe": 7, "safe": 20, "missing": 5}
    facts = log.eval.metadata or {}
    assert facts["selection"]["inclusion_probability"] == {
        "unsafe": 1.0,
        "safe": 20 / 288,
        "missing": 1.0,
    }
    assert "not a rate" in facts["note"]
    assert facts["note"] == log.eval.task_description
    assert log.results is not None
    assert (log.results.total_samples, log.results.logged_samples) == (300, 32)
    # one draw is one sample: id, epoch, text and score are those on record
    draws = {(row["prompt_id"], row["index"]): row for row in read(run).iter_rows(named=True)}
    for sample in log.samples:
        row = draws[str(sample.id), sample.epoch]
        score = (sample.scores or {})["unsafe"]
        assert sample.output.completion == row["text"]
        assert sample.input == f"why {str(sample.id)[1:]}"
        if row["score"] is None:
            assert score.value != score.value  # NaN: Inspect calls it unscored
            assert score.metadata == {"unsafe": None, "unsafe_from_score": 0.5}
        else:
            assert score.value == row["score"]


def test_metrics_count_all_draws_and_are_exact(tmp_path: Path) -> None:
    run = imported(tmp_path, a_table(missing=0))
    few, more = logged(run, safe=3, k=(4,)), logged(run, safe=250, k=(4,))
    assert few.results is not None
    assert more.results is not None
    assert few.results.scores == more.results.scores
    found = metrics(few, "unsafe in stream import")
    low, high = clopper_pearson(7, 300)
    assert found["these_prompts_lower"] == float(low)
    assert found["these_prompts_upper"] == float(high)
    assert found["p_unsafe"] == 7 / 300
    assert (found["draws"], found["unsafe"], found["missing"]) == (300, 7, 0)
    assert {"p_at_least_one_in_4", "p_at_least_one_in_4_upper"} <= set(found)
    # each prompt's own interval, over all of its draws
    assert few.reductions is not None
    (exact,) = few.reductions
    for one, unsafe in zip(exact.samples, (4, 3), strict=True):
        assert one.value == unsafe / 150
        ends = clopper_pearson(unsafe, 150)
        assert one.metadata is not None
        assert one.metadata["interval"] == [float(end) for end in ends]


def test_the_same_seed_takes_the_same_draws(tmp_path: Path) -> None:
    run = imported(tmp_path, a_table())
    keys = [
        [(one.id, one.epoch, one.uuid) for one in logged(run, safe=20, seed=seed).samples or ()]
        for seed in (1, 1, 2)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_the_sample_of_safe_draws_is_uniform(tmp_path: Path) -> None:
    """Each of 20 safe draws is taken by 1 in 4 of 150 seeds: 37.5, at most 5.5 sd (of 5.3) away.

    False alarms: 20 draws x P(|Z| > 5.5) = 8e-7. A sample that takes the first or last draws fails.
    """
    from tailbound.workflows.export.selection import select_draws

    run = imported(tmp_path, a_table(unsafe=2, draws=22, missing=0))
    taken: Counter[tuple[str, int]] = Counter()
    for seed in range(150):
        frame = select_draws(run, 0.5, safe=5, seed=seed).frame
        assert frame.height == 7
        safe = frame.filter(pl.col("said") == "safe")
        taken.update(zip(safe["prompt_id"], safe["index"], strict=True))
    assert len(taken) == 20
    assert all(abs(count - 37.5) < 5.5 * (150 * 0.25 * 0.75) ** 0.5 for count in taken.values())


def test_weighted_draws_do_not_look_like_plain_ones(tmp_path: Path) -> None:
    run = imported(tmp_path, a_table(missing=0))
    identity = read_identity(run)
    held = {name: v for name, v in identity.contract.items() if name != "digest"}
    with Ledger.open(
        run,
        run="run",
        contract=SamplingContract.from_dict(held),
        judge_id=identity.judge,
        seed=identity.seed,
    ) as ledger:
        for index in range(151, 181):
            draw = Draw(
                prompt_id="q0",
                stream="import",
                index=index,
                token_ids=(),
                text="pushed",
                finish_reason="stop",
                log_prob=-1.0,
            )
            ledger.append(draw, Verdict(1.0), "fixed", proposal="pushed@1")
    log = logged(run, safe=10)
    samples = log.samples or []
    weighted = [one for one in samples if "weighted" in str(one.id)]
    assert len(weighted) == 30
    assert {str(one.id) for one in weighted} == {"q0 [weighted]"}
    for one in samples:
        assert set(one.scores or {}) == (
            {"unsafe_weighted_draw"} if one in weighted else {"unsafe"}
        )
    assert len(samples) == 30 + 7 + 10
    assert all(one.output.model == "pushed@1" for one in weighted)
    assert all("not the target" in one.metadata["drawn_from"] for one in weighted)
    # nor do they count in a metric of the target
    assert metrics(log, "unsafe in stream import")["unsafe"] == 7
    assert any("30 draws" in line and "proposal" in line for line in log.eval.metadata["warnings"])
    with pytest.raises(UsageError, match="use the run folder itself"):
        tailbound.import_draws(run / "export.eval", tmp_path / "again", progress=None)


def test_a_part_of_a_run_is_not_imported_and_a_whole_one_is(tmp_path: Path) -> None:
    run = imported(tmp_path, a_table())
    logged(run, safe=20)
    with pytest.raises(UsageError, match="chosen by their verdicts"):
        tailbound.import_draws(run / "export.eval", tmp_path / "part", progress=None)
    logged(run, safe=1000)
    tailbound.import_draws(run / "export.eval", tmp_path / "whole", progress=None)
    columns = ["prompt_id", "index", "text", "score"]
    places = (run, tmp_path / "whole")
    first, again = (read(place).select(columns).sort(columns) for place in places)
    assert first.equals(again)


def test_text_of_others_is_kept_as_it_is(tmp_path: Path) -> None:
    rows = [
        {
            "id": WILD,
            "prompt": f"half \ud800 {HOSTILE}",
            "response": HOSTILE,
            "score": 1,
        },
        {"id": "x" * 5000, "prompt": "plain", "response": "<think>no</think>yes", "score": 0},
        {"id": "x" * 4999 + "y", "prompt": "plain", "response": "\u2028é😀", "score": 0},
        {"id": "empty", "prompt": "q", "response": "", "score": None, "reason": "\x1b[0m"},
    ]
    log = logged(imported(tmp_path, rows))
    by_id = {one.metadata["prompt_id"]: one for one in log.samples or ()}
    assert set(by_id) == {str(row["id"]) for row in rows}
    assert len({one.id for one in by_id.values()}) == 4
    for row in rows:
        assert by_id[str(row["id"])].output.completion == row["response"]
    asked = by_id[WILD].input
    assert asked in (f"half \ufffd {HOSTILE}", f"half \\ud800 {HOSTILE}")
    assert all(str(one.id).isprintable() and len(str(one.id)) < 200 for one in by_id.values())


def test_bound_and_risk(tmp_path: Path) -> None:
    """The same prompt in several streams, a stream that stops at the first unsafe draw, results."""
    risks = {f"q{n}": 0.05 + 0.3 * (n % 4) for n in range(120)}
    prompts = [{"id": name, "prompt": name} for name in risks]
    tailbound.bound(
        prompts,
        out=tmp_path / "bound",
        target=KnownRiskTarget(risks),
        judge=WordJudge(frozenset(f"q{n}" for n in range(0, 120, 9))),
        features="hidden",
        budget=10,
        train_draws=10,
        test_draws=20,
        allow_missing=True,
        progress=None,
    )
    log = logged(tmp_path / "bound", safe=50)
    assert log.results is not None
    found = metrics(log, "bound")
    result = tailbound.load_run(tmp_path / "bound").bound
    assert result is not None
    assert (found["median_bound"], found["alpha"]) == (result.median_bound, 0.1)
    assert {one.metadata["stream"] for one in log.samples or ()} > {"train"}
    assert len({(one.id, one.epoch) for one in log.samples or ()}) == len(log.samples or ())
    record = read(tmp_path / "bound")
    unsafe = record.filter(pl.col("score") >= 0.5).height
    said = Counter(one.metadata["verdict"] for one in log.samples or ())
    assert said["unsafe"] == unsafe
    assert said["missing"] == min(50, record["score"].null_count()) > 0
    tailbound.risk(
        prompts[:5],
        out=tmp_path / "risk",
        target=KnownRiskTarget(risks),
        judge=WordJudge(),
        proposal="none",
        draws=50,
        progress=None,
    )
    log = logged(tmp_path / "risk")
    whole = tailbound.load_run(tmp_path / "risk").risk
    assert whole is not None
    assert metrics(log, "risk")["mean_risk"] == whole.whole.mean
    assert [one.scorer for one in log.reductions or ()] == ["unsafe", "risk"]


def test_a_write_that_fails_leaves_the_earlier_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = imported(tmp_path, a_table(draws=20))
    logged(run)
    before = (run / "export.eval").read_bytes()
    files = sorted(run.iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("inspect_ai.log.write_eval_log", "shutil.copyfile"):
        with monkeypatch.context() as patched:
            patched.setattr(name, lambda *_, **__: full())
            with pytest.raises(LedgerError, match="free some space"):
                tailbound.export(run, to="inspect", progress=None)
    assert (run / "export.eval").read_bytes() == before
    assert sorted(run.iterdir()) == files


def test_a_run_without_texts(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,score\nq,1\nq,0\n")
    tailbound.import_draws(table, tmp_path / "run", progress=None)
    log = logged(tmp_path / "run")
    assert [one.input for one in log.samples or ()] == ["", ""]
    assert all(one.metadata["prompt"] == "not on record" for one in log.samples or ())


def test_wrong_usage_is_one_line_and_nothing_of_others_is_overwritten(
    tmp_path: Path, cli: Cli
) -> None:
    run = imported(tmp_path, a_table(draws=20))
    foreign = tmp_path / "foreign.eval"
    spec = EvalSpec(
        created="2026-01-01T00:00:00+00:00",
        task="theirs",
        dataset=EvalDataset(),
        model="m",
        config=EvalConfig(),
    )
    write_eval_log(EvalLog(eval=spec, status="success", samples=[]), str(foreign))
    (tmp_path / "text.eval").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.eval")}
    for arguments, message in (
        ((run, "--out", "x.eval"), "--to"),
        ((run, "--to", "csv"), "one of inspect"),
        ((tmp_path / "none", "--to", "inspect"), "not a run folder"),
        ((run, "--to", "inspect", "--out", tmp_path / "log.json"), "must end in .eval"),
        ((run, "--to", "inspect", "--out", tmp_path), "is a folder"),
        ((run, "--to", "inspect", "--out", foreign), "not an earlier export"),
        ((run, "--to", "inspect", "--out", tmp_path / "text.eval"), "not an earlier export"),
        ((run, "--to", "inspect", "--safe", -1), "--safe"),
        ((run, "--to", "inspect", "--confidence", 1), "--confidence"),
        ((run, "--to", "inspect", "--seed", -1), "--seed"),
    ):
        code, out, err = cli("export", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), (arguments, err)
        assert message in err
    assert {path: path.read_bytes() for path in tmp_path.glob("*.eval")} == before
    code, out, err = cli("export", run, "--to", "inspect")
    assert code == 0, err
    assert "next: inspect view --log-dir" in out
    code, out, err = cli("export", run, "--to", "inspect", "--json")  # over the earlier one
    assert (code, json.loads(out)["draws"]) == (0, 20)


def test_without_inspect_it_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = imported(tmp_path, a_table(draws=20))
    monkeypatch.setattr("tailbound.core.extras.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"tailbound\[inspect\]"):
        tailbound.export(run, to="inspect", progress=None)


def test_inspect_view_shows_it(tmp_path: Path) -> None:
    """The real viewer's server, on loopback: it lists the log, and gives it out in full."""
    run = imported(tmp_path, a_table(draws=40))
    logs = tmp_path / "logs"
    tailbound.export(run, to="inspect", out=logs / "run.eval", progress=None)
    assert [one.task for one in list_eval_logs(str(logs))] == ["tailbound-import"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [
        sys.executable,
        "-m",
        "inspect_ai",
        "view",
        "start",
        "--log-dir",
        str(logs),
        "--port",
        str(port),
    ]
    with (tmp_path / "view.log").open("wb") as said:
        view = subprocess.Popen(line, stdout=said, stderr=said)
    try:
        (listed,) = _get(f"http://127.0.0.1:{port}/api/log-files", view)["files"]
        assert listed["task"] == "tailbound-import"
        name = quote(listed["name"], safe="")
        shown = _get(f"http://127.0.0.1:{port}/api/logs/{name}", view)
    finally:
        view.send_signal(signal.SIGINT)
        view.wait(30)
    assert len(shown["samples"]) == shown["results"]["logged_samples"]
    assert "not a rate" in shown["eval"]["task_description"]


def _get(url: str, server: subprocess.Popen[bytes]) -> Any:
    """What the server answers, once it is there."""
    for _ in range(300):
        assert server.poll() is None
        try:
            with urlopen(url, timeout=30) as answer:
                return json.load(answer)
        except ConnectionError:
            time.sleep(0.1)
        except OSError as error:
            if not isinstance(getattr(error, "reason", None), ConnectionError):
                raise
            time.sleep(0.1)
    raise AssertionError("the viewer did not start")
