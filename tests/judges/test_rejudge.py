"""Judging a ledger again: both verdicts kept, durable, resumable, counted right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import beta

from tailbound.core.contract import Draw, SamplingContract, Verdict
from tailbound.errors import JudgeError, LedgerError, RunLockedError, UsageError
from tailbound.judges import Exchange
from tailbound.runs import Ledger, manifest, read
from tailbound.runs.prompts import keep_table
from tailbound.runs.rounds import Round, write_round
from tailbound.storage.files import write_json
from tailbound.workflows.rejudge import Rejudged, find_prompts, plan, rejudge
from tailbound.workflows.rejudge.verdicts import (
    VerdictWriter,
    judge_digest,
    read_verdicts,
    verdicts_folder,
)

CONTRACT = SamplingContract(
    target="t", revision=None, template=None, system=None, temperature=1.0, top_p=1.0, top_k=None,
    max_new_tokens=8, stop_ids=(), stop=(), precision="exact",
)  # fmt: skip
Row = tuple[str, str, str, int, str, float | None]
"""(stream, stopping, prompt, index, text, recorded score)."""


def run(
    folder: Path, rows: Sequence[Row], *, store_text: bool = True, proposal: str | None = None
) -> Path:
    """A run folder with these draws, written by the real ledger."""
    with Ledger.open(
        folder, run="r", contract=CONTRACT, judge_id="old@1", seed=0, store_text=store_text,
        flush_rows=10,
    ) as ledger:  # fmt: skip
        for stream, stopping, prompt, index, text, score in rows:
            draw = Draw(
                prompt_id=prompt, stream=stream, index=index, token_ids=(1,), text=text,
                finish_reason="stop", log_prob=-1.0,
            )  # fmt: skip
            verdict = Verdict(score, None if score is not None else "lost")
            ledger.append(draw, verdict, stopping, proposal=proposal)
    names = sorted({row[2] for row in rows})
    messages = [json.dumps([["user", f"question {name}"]]) for name in names]
    part, group = ["train"] * len(names), pl.Series([None] * len(names), dtype=pl.String)
    keep_table(
        folder, pl.DataFrame({"id": names, "part": part, "group": group, "messages": messages})
    )
    document = manifest.full_manifest(
        command="bound", contract=CONTRACT, target="t", engine={}, judge="old", judge_id="old@1",
        threshold=0.5, options={},
    )  # fmt: skip
    manifest.write_manifest(folder, document)
    return folder


TEXTS = ["0.9", "0.2", "none", "0.6"]


def standard(folder: Path) -> Path:
    """40 draws of fixed length, 3 of a stream that stopped at its first unsafe draw."""
    recorded = [1.0, 0.0, 0.0, None, 1.0]
    rows: list[Row] = [
        ("train", "fixed", f"p{n % 2}", 1 + n // 2, TEXTS[n % 4], recorded[n % 5])
        for n in range(40)
    ]
    rows += [("test", "first-event", "p0", n, "0.9", float(n == 3)) for n in (1, 2, 3)]
    return run(folder, rows)


class Reader:
    """Scores a response by the number that it says; "none" is missing."""

    threshold = 0.5

    def __init__(self, name: str = "reader@1") -> None:
        self.id = name
        self.seen: list[Exchange] = []

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        self.seen += exchanges
        return [
            Verdict(None, "no number") if e.response == "none" else Verdict(float(e.response))
            for e in exchanges
        ]


def again(folder: Path, judge: Reader | None = None, **settings: object) -> Rejudged:
    return rejudge(
        folder, judge or Reader(), name="reader", prompts=find_prompts(folder), **settings  # type: ignore[arg-type]
    )  # fmt: skip


def by_hand(folder: Path) -> dict[str, int]:
    """The counts of the fixed stream by a plain loop."""
    counts = dict.fromkeys(
        ["both_unsafe", "both_safe", "only_recorded", "only_new", "missing_recorded",
         "missing_new", "both_missing"], 0,
    )  # fmt: skip
    for row in read(folder, stream="train").iter_rows(named=True):
        old = None if row["score"] is None else row["score"] >= 0.5
        new = None if row["text"] == "none" else float(row["text"]) >= 0.5
        if old is None or new is None:
            key = (
                "both_missing" if old is new else "missing_recorded" if old is None
                else "missing_new"
            )  # fmt: skip
        else:
            key = {(1, 1): "both_unsafe", (0, 0): "both_safe", (1, 0): "only_recorded"}.get(
                (old, new), "only_new"
            )
        counts[key] += 1
    return counts


def test_both_verdicts_are_kept_and_compared(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (folder / "draws").iterdir()}
    judge = Reader()
    result = again(folder, judge)
    assert {p.name: p.read_bytes() for p in (folder / "draws").iterdir()} == before
    verdicts = read_verdicts(verdicts_folder(folder, "reader@1"))
    assert verdicts.height == 43
    joined = read(folder).join(verdicts, on=["stream", "prompt_id", "index"], suffix="_new")
    assert joined.height == 43
    for row in joined.iter_rows(named=True):
        expected = None if row["text"] == "none" else float(row["text"])
        assert row["score_new"] == expected
        assert row["reason_new"] == ("no number" if expected is None else None)
    train, test = result.streams
    counts = by_hand(folder)
    assert min(counts.values()) > 0
    assert {k: v for k, v in train.agreement.to_dict().items() if k in counts} == counts
    assert (test.agreement.only_new, test.agreement.both_unsafe) == (2, 1)
    assert test.rates == ()
    assert result.agreement.draws == 43
    known = counts["both_unsafe"] + counts["both_safe"]
    assert train.agreement.share == known / (known + counts["only_recorded"] + counts["only_new"])
    assert {e.prompt.text for e in judge.seen} == {"question p0", "question p1"}
    saved = json.loads((verdicts_folder(folder, "reader@1") / "agreement.json").read_text())
    del saved["checksum"]
    assert saved == json.loads(json.dumps(result.to_dict()))


def test_rates_have_exact_intervals_with_missing_at_its_worst(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    recorded, new = again(folder, confidence=0.9).streams[0].rates
    assert (recorded.verdicts, recorded.draws, recorded.unsafe, recorded.missing) == (
        "recorded", 40, 16, 8,
    )  # fmt: skip
    assert (new.verdicts, new.draws, new.unsafe, new.missing) == ("new", 40, 20, 10)
    assert recorded.rate == 16 / 32
    assert recorded.interval == pytest.approx((beta.ppf(0.05, 16, 25), beta.ppf(0.95, 25, 16)))
    assert new.interval == pytest.approx((beta.ppf(0.05, 20, 21), beta.ppf(0.95, 31, 10)))


def test_without_any_verdict_the_rate_is_not_known(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", [("s", "fixed", "p", n, "none", 0.0) for n in (1, 2, 3)])
    rate = again(folder).streams[0].rates[1]
    assert rate.rate is None
    assert rate.interval == (0.0, 1.0)


def test_the_threshold_is_read_later(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    again(folder)
    strict = Reader()
    strict.threshold = 0.8
    result = again(folder, strict)
    assert strict.seen == []
    assert result.judged_before == 43
    assert result.streams[0].rates[1].unsafe == 10
    assert again(folder, recorded_threshold=1.0).recorded_threshold == 1.0


def test_only_missing_judges_only_those(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    judge = Reader()
    result = again(folder, judge, only_missing=True)
    assert len(judge.seen) == 8 == result.judged_now
    train = result.streams[0]
    assert train.agreement.draws == 8
    assert train.agreement.missing_recorded + train.agreement.both_missing == 8
    filled = train.rates[1]
    assert filled.verdicts == "filled"
    assert filled.unsafe == 16 + sum(e.response in ("0.9", "0.6") for e in judge.seen)
    assert filled.missing == sum(e.response == "none" for e in judge.seen) > 0
    # the rest later, by the same judge
    later = Reader()
    assert again(folder, later).judged_now == 35 == len(later.seen)


def test_draws_of_proposals_have_verdicts_but_no_rates(tmp_path: Path) -> None:
    rows: list[Row] = [("risk", "fixed", "p", n, "0.9", 0.0) for n in (1, 2)]
    result = again(run(tmp_path / "run", rows, proposal="steered"))
    assert result.streams[0].rates == ()
    assert result.agreement.only_new == 2


def test_verdicts_without_prompts_are_kept_apart(tmp_path: Path) -> None:
    """A judge that looks at the request says other things when it is not shown one."""
    folder = standard(tmp_path / "run")
    blind, seeing = Reader(), Reader()
    result = rejudge(folder, blind, name="reader", prompts=None)
    assert {e.prompt.text for e in blind.seen} == {"(not shown)"}
    assert result.judge == "reader@1 without prompts"
    assert again(folder, seeing).judged_now == 43 == len(seeing.seen)
    assert {e.prompt.text for e in seeing.seen} == {"question p0", "question p1"}


def test_reasons_of_missing_verdicts_are_told(tmp_path: Path) -> None:
    result = again(standard(tmp_path / "run"))
    assert result.missing_reasons == (("no number", 10),)
    assert result.to_dict()["missing_reasons"] == [{"reason": "no number", "draws": 10}]


def test_a_judge_that_fails_on_every_draw_is_an_error(tmp_path: Path) -> None:
    """Fewer draws than the queue's limit of failures, so that only their number tells."""
    folder = standard(tmp_path / "run")
    with pytest.raises(JudgeError, match=r"failed on each of 43 draws .*reset.*: fix it"):
        again(folder, Breaking(ConnectionError("reset"), after=0))
    assert again(folder).judged_now == 43


def test_what_is_under_way_at_an_interruption_is_kept(tmp_path: Path) -> None:
    """Shards of ten draws; Ctrl-C comes while the judge is at the second."""
    folder = run(tmp_path / "run", [("s", "fixed", "p", n, "0.9", 0.0) for n in range(40)])

    def report(done: int, total: int) -> None:
        if done == 10:
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    class Slow(Reader):
        def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
            if len(self.seen) >= 10:
                time.sleep(0.6)
            return super().judge(exchanges)

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            again(folder, Slow(), report=report)
    finally:
        signal.signal(signal.SIGALRM, before)
    rest = Reader()
    kept = again(folder, rest).judged_before
    assert 10 < kept <= 20
    assert len(rest.seen) == 40 - kept


class Choosy(Reader):
    """Fails on some texts for ever, as a hosted judge with a content filter does."""

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        if any(e.response == "0.2" for e in exchanges):
            raise ConnectionError("content filter")
        return super().judge(exchanges)


@pytest.mark.parametrize("draws", [40, 400])
def test_texts_that_always_fail_do_not_hide_the_other_verdicts(tmp_path: Path, draws: int) -> None:
    """A new threshold can be read, although the failures, tried again, are failures in a row."""
    rows: list[Row] = [("s", "fixed", "p", n, TEXTS[n % 4], 0.0) for n in range(draws)]
    folder = run(tmp_path / "run", rows)
    first = again(folder, Choosy())
    strict = Choosy()
    strict.threshold = 0.8
    second = again(folder, strict)
    assert strict.seen == []
    assert second.judged_before == 3 * draws // 4
    assert (first.streams[0].rates[1].unsafe, second.streams[0].rates[1].unsafe) == (
        draws // 2, draws // 4,
    )  # fmt: skip
    for result in (first, second):
        assert result.streams[0].rates[1].missing == draws // 2
    reported = "failed 50 times in a row" in " ".join(second.notices)
    assert reported == (draws == 400)
    assert 0 < second.judged_now <= draws // 4
    # a judge that that works again is used again
    assert again(folder).streams[0].rates[1].missing == draws // 4


def test_failures_in_a_row_are_counted_over_shards(tmp_path: Path) -> None:
    """Shards of ten draws, of which none alone would try the queue's limit of failures."""
    rows: list[Row] = [("s", "fixed", "p", n, "0.9", 0.0) for n in range(1, 400)]
    judge = Breaking(ConnectionError("reset"), after=100)
    with pytest.raises(JudgeError, match="failed 50 times in a row"):
        again(run(tmp_path / "run", rows), judge)


def test_foreign_files_among_the_parts_are_left_alone(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    again(folder)
    home = verdicts_folder(folder, "reader@1")
    (home / "notes.txt").write_bytes(b"mine")
    last = sorted(home.glob("part-0*"))[-1]
    last.rename(home / "part-1000000.parquet")  # more digits: later, although it sorts before
    rest = Reader()
    assert again(folder, rest).judged_before == 43
    assert rest.seen == []


def test_two_judges_have_two_folders(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    again(folder)
    again(folder, Reader("reader@2"))
    found = sorted(p.name for p in (folder / "verdicts").iterdir())
    assert found == sorted(map(judge_digest, ("reader@1", "reader@2")))


# --- interruptions ----------------------------------------------------------------------------


class Breaking(Reader):
    """Fails as asked, from a certain number of exchanges on."""

    def __init__(self, error: Exception, *, after: int) -> None:
        super().__init__()
        self.error, self.after = error, after

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        if len(self.seen) + len(exchanges) > self.after:
            raise self.error
        return super().judge(exchanges)


def test_what_was_judged_before_a_breakdown_is_kept(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    with pytest.raises(JudgeError, match="no key"):
        again(folder, Breaking(JudgeError("no key"), after=25))
    kept = read_verdicts(verdicts_folder(folder, "reader@1")).height
    assert 0 < kept <= 25
    rest = Reader()
    result = again(folder, rest)
    assert len(rest.seen) == 43 - kept
    assert (result.judged_before, result.judged_now) == (kept, 43 - kept)
    whole = again(standard(tmp_path / "other"))
    assert result.streams == whole.streams


def test_failures_are_missing_and_tried_again_next_time(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    result = again(folder, Breaking(ConnectionError("reset"), after=20))
    failures = 43 - read_verdicts(verdicts_folder(folder, "reader@1")).filter(
        pl.col("reason").is_null() | (pl.col("reason") == "no number")
    ).height  # fmt: skip
    assert failures >= 20
    assert result.agreement.missing_new + result.agreement.both_missing > failures // 2
    rest = Reader()
    second = again(folder, rest)
    assert len(rest.seen) == failures
    assert second.streams == again(standard(tmp_path / "other")).streams


SLOW = """
import sys, time
from pathlib import Path
from tailbound.core.contract import Verdict
from tailbound.workflows.rejudge import find_prompts, rejudge
import tailbound.workflows.rejudge.verdicts as second

class Slow:
    id, threshold = "reader@1", 0.5
    def judge(self, exchanges):
        time.sleep(0.05)
        return [Verdict(None, "no number") if e.response == "none" else
                Verdict(float(e.response)) for e in exchanges]

folder = Path(sys.argv[1])
rejudge(folder, Slow(), name="slow", prompts=find_prompts(folder))
"""


def test_a_killed_process_loses_only_what_was_not_flushed(tmp_path: Path) -> None:
    rows: list[Row] = [("s", "fixed", f"p{n}", 1, TEXTS[n % 4], 0.0) for n in range(2000)]
    folder = run(tmp_path / "run", rows)
    home = verdicts_folder(folder, "reader@1")
    script = SLOW.replace("import tailbound.workflows.rejudge.verdicts as second", (
        "import tailbound.workflows.rejudge.verdicts as second\n"
        "second.VerdictWriter.__init__.__kwdefaults__['flush_rows'] = 50"
    ))  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    deadline = time.monotonic() + 60
    while len(list(home.glob("part-*.parquet"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(RunLockedError, match="in use by another process"):
        again(folder)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (home / ".part-000009.parquet-00000000.tmp").write_bytes(b"half")
    kept = read_verdicts(home).height
    assert 150 <= kept < 2000
    rest = Reader()
    again(folder, rest)
    assert len(rest.seen) == 2000 - kept
    assert read_verdicts(home).height == 2000
    assert list(home.glob("*.tmp")) + list(home.glob(".*.tmp")) == []


def test_damage_is_explained(tmp_path: Path) -> None:
    folder = standard(tmp_path / "run")
    again(folder)
    home = verdicts_folder(folder, "reader@1")
    part = next(home.glob("part-*"))
    whole = part.read_bytes()
    part.write_bytes(whole[:20])
    with pytest.raises(LedgerError, match=r"is damaged.*will be judged again"):
        again(folder)
    part.unlink()
    rest = Reader()
    again(folder, rest)
    assert len(rest.seen) == 43
    pl.DataFrame({"a": [1]}).write_parquet(home / "part-000099.parquet")
    with pytest.raises(LedgerError, match="was not written by this tailbound"):
        again(folder)
    (home / "part-000099.parquet").unlink()
    write_json(home / "judge.json", {"judge_id": "another"})
    with pytest.raises(LedgerError, match="holds verdicts of another, not reader@1"):
        again(folder)


def test_the_latest_verdict_of_a_draw_holds(tmp_path: Path) -> None:
    home = verdicts_folder(run(tmp_path, [("s", "fixed", "p", 1, "0.9", 0.0)]), "j@1")
    for verdict in (Verdict(None, "judge failed: x"), Verdict(0.25)):
        with VerdictWriter(home, judge="j", judge_id="j@1") as writer:
            writer.append(("s", "p", 1), verdict)
    found = read_verdicts(home)
    assert found["score"].to_list() == [0.25]


# --- mistakes ---------------------------------------------------------------------------------


def test_what_cannot_be_judged_is_said_first(tmp_path: Path) -> None:
    rows: list[Row] = [("s", "fixed", "p", n, "0.9", 0.0) for n in (1, 2)]
    bare = run(tmp_path / "bare", rows, store_text=False)
    with pytest.raises(UsageError, match="keeps no responses"):
        again(bare)
    assert not (bare / "verdicts").exists()
    with pytest.raises(UsageError, match="holds no draws"):
        plan(tmp_path, "j")
    folder = run(tmp_path / "run", rows)
    (folder / "run.yaml").unlink()
    with pytest.raises(UsageError, match="give --recorded-threshold"):
        again(folder)
    assert again(folder, recorded_threshold=0.5).judged_now == 2
    with pytest.raises(UsageError, match=r"must lie in \(0, 1\], not 2"):
        again(folder, recorded_threshold=2.0)
    own = tmp_path / "own.jsonl"
    own.write_text('{"id": "p", "prompt": "another question"}\n')
    with pytest.raises(UsageError, match=r"own.jsonl has another text for prompt 'p' than .*run"):
        find_prompts(folder, file=own)
    own.write_text('{"id": "p", "prompt": "question p"}\n')
    assert find_prompts(folder, file=own) == find_prompts(folder)
    (folder / "run.yaml").write_text("schema: 1\n")
    with pytest.raises(LedgerError, match=r"run.yaml is damaged"):
        again(folder)
    (folder / "prompts.parquet").unlink()
    with pytest.raises(UsageError, match="does not hold its prompts: give their file by --prompts"):
        find_prompts(folder)
    other = tmp_path / "prompts.jsonl"
    other.write_text('{"id": "q", "prompt": "x"}\n')
    with pytest.raises(UsageError, match=r"1 of 1 prompts of .* are not known .the first: 'p'."):
        rejudge(
            folder, Reader("n@1"), name="r", recorded_threshold=0.5,
            prompts=find_prompts(folder, file=other),
        )  # fmt: skip
    other.write_text('{"id": "p", "prompt": "x y"}\n')
    assert find_prompts(folder, file=other)["p"].text == "x y"


# --- the command ------------------------------------------------------------------------------


def test_the_command(
    tmp_path: Path,
    cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = standard(tmp_path / "run")
    code, out, err = cli("rejudge", folder, "--judge", r"regex:0\.9", "--dry-run")
    assert (code, out) == (0, "43 draws to judge, 0 judged before\n")
    code, out, err = cli("rejudge", folder, "--judge", r"regex:0\.9", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["judged_now"] == 43
    assert document["recorded_judge"] == "old@1"
    assert document["streams"][0]["rates"][1]["unsafe"] == 10
    low, high = document["streams"][0]["rates"][1]["interval"]
    assert (low, high) == pytest.approx((beta.ppf(0.025, 10, 31), beta.ppf(0.975, 11, 30)))
    code, out, err = cli("rejudge", folder, "--judge", r"regex:0\.9", "--threshold", 0.7)
    assert code == 0
    assert "0 draws judged now, 43 before" in out
    assert "train, new verdicts: 10 of 40 unsafe" in out
    assert "train, old verdicts: 16 of 40 unsafe, 8 missing" in out
    rows = {" ".join(line.split()[:-3]): line.split()[-3:] for line in out.splitlines()}
    assert rows["judged by the new judge"] == ["40", "3", "43"]
    assert rows["unsafe by the new judge only"][1] == "2"
    assert "test: no rates, because its draws were stopped by the old verdicts" in out
    (tmp_path / "cannot_tell.py").write_text("def f(response):\n    return None\n")
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("rejudge", folder, "--judge", "python:cannot_tell:f")
    assert "no verdict on 43: the judge gave no score\n" in out


def test_mistakes_of_the_command(tmp_path: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    folder = standard(tmp_path / "run")
    for arguments, message in (
        (("nowhere",), "nowhere holds no draws: give the --out of a run"),
        ((folder, "--no-prompts", "--prompts", "p.csv"), "exclude each other: leave one out"),
        ((folder, "--field", "text"), "--field names a column of --prompts: give that file"),
        ((folder, "--confidence", 1), "--confidence must lie strictly between 0 and 1"),
        ((folder, "--prompts", "absent.csv"), "no prompt file absent.csv"),
        ((folder, "--threshold", 3), r"the threshold must lie in (0, 1], not 3"),
    ):
        code, out, err = cli("rejudge", *arguments, "--judge", "regex:a")
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    (folder / "prompts.parquet").unlink()
    assert cli("rejudge", folder, "--judge", "regex:a", "--no-prompts", "--json")[0] == 0


def test_what_is_wrong_with_the_run_is_said_before_the_judge_is_loaded(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    rows: list[Row] = [("s", "fixed", "p", 1, "0.9", 0.0)]
    bare = run(tmp_path / "bare", rows, store_text=False)
    code, _, err = cli("rejudge", bare, "--judge", "classifier:/no/such/model")
    assert code == 2
    assert "keeps no responses" in err


def test_the_demo_judge_agrees_with_itself(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    """A run of the demo model, judged by itself and by a judge that looks at less."""
    from tailbound.audit import Audit
    from tailbound.core.contract import SamplingOptions
    from tailbound.demo.world import forbidden_prompts, harmless_prompts
    from tailbound.judges import load_judge
    from tailbound.targets.registry import load_target

    prompts = [*forbidden_prompts(8), *harmless_prompts(4)]
    target = load_target("demo", SamplingOptions(max_new_tokens=32))
    judge = load_judge("demo")
    folder = tmp_path / "run"
    with Ledger.open(
        folder, run="r", contract=target.contract, judge_id=judge.id, seed=0
    ) as ledger:
        Audit(target, judge, ledger, threshold=0.5, seed=0).sample_fixed(
            prompts, 40, stream="train"
        )
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in prompts))
    shared = ("--prompts", file, "--recorded-threshold", 0.5, "--json")
    same = json.loads(cli("rejudge", folder, "--judge", "demo", *shared)[1])
    assert same["agreement"]["agree"] == 1.0
    assert same["agreement"]["both_safe"] + same["agreement"]["both_unsafe"] == 480
    steps = json.loads(cli("rejudge", folder, "--judge", "demo:steps", *shared)[1])
    found = steps["agreement"]
    assert found["only_recorded"] == 0  # every unsafe reply gives steps
    assert found["only_new"] > 0  # but harmless requests get steps as well
    recorded, new = (rate["unsafe"] for rate in steps["streams"][0]["rates"])
    assert new == recorded + found["only_new"]
    assert np.isfinite(steps["streams"][0]["rates"][1]["interval"]).all()


def test_later_rounds_of_a_risk_run_have_no_rate(tmp_path: Path) -> None:
    """How many draws there are in them depends on the first: their counts are not binomial."""
    from tailbound.workflows.rejudge.agreement import compare_stream

    write_round(
        tmp_path, 1, Round(proposals=[None, "ladder"], sequential=False, batches={"a": [3, 2]})
    )
    frame = pl.DataFrame(
        {
            "stream": ["risk"] * 8,
            "stopping": ["fixed"] * 8,
            "prompt_id": ["a"] * 8,
            "index": range(1, 9),
            "proposal": [None] * 3 + ["ladder"] * 2 + [None] * 3,
            "judged": [True] * 8,
            "old": [False] * 8,
            "new": [True] * 8,
        }
    )
    found = compare_stream(frame, folder=tmp_path, filled=False, confidence=0.95)
    assert [(rate.unsafe, rate.draws) for rate in found.rates] == [(0, 3), (3, 3)]
    assert found.agreement.only_new == 8
