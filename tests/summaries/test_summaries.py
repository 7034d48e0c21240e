"""Exact summaries: closed forms, coverage by enumeration, and the command on real folders."""

from __future__ import annotations

import json
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom, geom

from tailbound.cli import main
from tailbound.cli.summarize import _digits, _interval
from tailbound.core.contract import Draw, Verdict
from tailbound.errors import LedgerError, UsageError
from tailbound.runs import Ledger, manifest
from tailbound.runs.rounds import Round, write_round
from tailbound.summaries import (
    implied_bound,
    summarize_first_event,
    summarize_fixed,
    summarize_set,
    unbiased,
)
from tailbound.testing import KnownRiskTarget
from tailbound.workflows.import_ import import_run
from tailbound.workflows.summarize.summary import summarize_run


def test_no_event_in_500_draws_is_not_zero():
    found = summarize_fixed(500, 0, 0)
    assert found.estimate == 0
    assert f"{found.upper:.4f}" == "0.0060"
    assert found.interval == (0.0, pytest.approx(1 - 0.025 ** (1 / 500)))
    # (1 - .00597)^(L - 1) >= .9 holds for L = 18 and no longer for 19
    assert found.lower_bound == 18


@pytest.mark.parametrize("p", [0.02, 0.3, 0.8])
def test_binomial_intervals_cover_by_enumeration(p):
    n = 30
    chance = binom.pmf(np.arange(n + 1), n, p)
    found = [summarize_fixed(n, c, 0) for c in range(n + 1)]
    two_sided = sum(
        w for w, s in zip(chance, found, strict=True) if s.interval[0] <= p <= s.interval[1]
    )
    upper = sum(w for w, s in zip(chance, found, strict=True) if p <= s.upper)
    assert two_sided >= 0.95
    assert upper >= 0.95
    assert all(s.interval[1] > s.interval[0] for s in found)


@pytest.mark.parametrize("p", [0.005, 0.05, 0.4, 0.9])
@pytest.mark.parametrize("horizon", [1, 7, 60])
def test_geometric_intervals_cover_by_enumeration(p, horizon):
    """All ways to stop at the first event or at the horizon, with their exact chances."""
    covered, covered_upper, total, width = 0.0, 0.0, 0.0, []
    for t in range(1, horizon + 1):
        ways = [(geom.pmf(t, p), True)]
        if t == horizon:
            ways.append((geom.sf(horizon, p), False))
        for chance, unsafe in ways:
            found = summarize_first_event(t, unsafe=unsafe)
            total += chance
            covered += chance * (found.interval[0] <= p <= found.interval[1])
            covered_upper += chance * (p <= found.upper)
            width.append(found.interval[1] - found.interval[0])
    assert total == pytest.approx(1)
    assert covered >= 0.95 - 1e-12
    assert covered_upper >= 0.95 - 1e-12
    assert min(width) > 0


def test_binomial_limits_would_be_wrong_for_draws_that_stopped():
    """T = 50 with its one event: the geometric lower limit is below the binomial one."""
    stopped, fixed = summarize_first_event(50, unsafe=True), summarize_fixed(50, 1, 0)
    assert stopped.interval[0] == pytest.approx(1 - 0.975 ** (1 / 50))
    assert stopped.interval[1] == pytest.approx(1 - 0.025 ** (1 / 49))
    assert stopped.interval[1] < fixed.interval[1]


@pytest.mark.parametrize(("n", "c", "k"), [(6, 0, 2), (6, 2, 3), (6, 5, 2), (7, 3, 7), (5, 1, 1)])
def test_at_least_one_is_the_share_of_subsets(n, c, k):
    outcome = [1] * c + [0] * (n - c)
    share = np.mean([any(some) for some in combinations(outcome, k)])
    assert unbiased(n, c, k) == pytest.approx(share)


def test_at_least_one_is_unbiased_and_unknown_beyond_the_draws():
    n, p, k = 12, 0.17, 5
    mean = sum(binom.pmf(c, n, p) * unbiased(n, c, k) for c in range(n + 1))
    assert mean == pytest.approx(1 - (1 - p) ** k)
    found = summarize_fixed(12, 3, 0, ks=(5, 13))
    assert found.at_least_one[1].estimate is None
    assert found.at_least_one[1].interval[0] > found.at_least_one[0].interval[0]
    # stopped at the first event: 1{T <= k}, within the horizon
    horizon = 9
    mean = sum(
        geom.pmf(t, p) * summarize_first_event(t, unsafe=True, ks=(5,)).at_least_one[0].estimate
        for t in range(1, 6)
    )
    late = [summarize_first_event(t, unsafe=True, ks=(5,)).at_least_one[0].estimate for t in (6, 9)]
    assert late == [0.0, 0.0]
    assert mean == pytest.approx(1 - (1 - p) ** 5)
    none = summarize_first_event(horizon, unsafe=False, ks=(9, 10)).at_least_one
    assert [one.estimate for one in none] == [0.0, None]


def test_missing_is_safe_below_and_unsafe_above():
    found, clean = summarize_fixed(100, 3, 5), summarize_fixed(100, 3, 0)
    assert found.interval[0] == clean.interval[0]
    assert found.interval[1] == summarize_fixed(100, 8, 0).interval[1]
    assert found.estimate == 3 / 95
    stopped = summarize_first_event(20, unsafe=False, missing=True)
    assert stopped.interval[0] == 0
    assert stopped.interval[1] == summarize_first_event(20, unsafe=True).interval[1]


def test_implied_bound_is_the_largest():
    for p in (1e-9, 3e-4, 0.02, 0.2, 0.9):
        level = implied_bound(p, alpha=0.1)
        assert (level - 1) * np.log1p(-p) >= np.log(0.9)
        assert level * np.log1p(-p) < np.log(0.9)


def test_the_set_covers_its_population():
    """200 sets of 60 prompts with risks of two kinds; 95% must cover, and they are conservative.

    With coverage .95 exactly, fewer than 180 of 200 has a chance below .2%.
    """
    rng = np.random.default_rng(5)
    held = these = 0
    for _ in range(200):
        p = np.where(rng.random(60) < 0.2, 0.3, 0.01)
        summaries = [summarize_fixed(40, int(c), 0) for c in rng.binomial(40, p)]
        (found,) = summarize_set(summaries, [str(i) for i in range(60)])
        held += found.interval[0] <= 0.2 * 0.3 + 0.8 * 0.01 <= found.interval[1]
        assert found.these is not None
        these += found.these[0] <= p.mean() <= found.these[1]
    assert held >= 180
    assert these >= 180


def test_groups_are_clusters():
    summaries = [summarize_fixed(40, c, 0) for c in (10, 10, 10, 0, 0, 0) * 5]
    apart = summarize_set(summaries, [str(i) for i in range(30)])[0]
    together = summarize_set(summaries, [f"g{i // 3}" for i in range(30)])[0]
    assert (apart.clusters, together.clusters) == (30, 10)
    assert apart.mean == pytest.approx(0.125)
    assert together.interval[1] - together.interval[0] > apart.interval[1] - apart.interval[0]


def test_prompts_count_alike_for_these_and_groups_for_such():
    """One group of three risky wordings and one of a single safe one."""
    summaries = [summarize_fixed(40, c, 0) for c in (20, 20, 20, 0)]
    (found,) = summarize_set(summaries, ["g", "g", "g", "h"])
    assert found.mean == pytest.approx(0.375)
    assert found.cluster_mean == pytest.approx(0.25)
    assert found.these is not None
    assert found.these[0] < 0.375 < found.these[1]


def test_a_missing_verdict_leaves_the_mean_between_its_extremes():
    (found, beyond) = summarize_set(
        [summarize_fixed(10, 1, 2, ks=(9,)), summarize_fixed(10, 0, 0, ks=(9,))], ["a", "b"]
    )
    assert (found.mean, found.cluster_mean) == (None, None)
    assert found.extremes == pytest.approx((0.05, 0.15))
    # 9 of 10 draws that count as safe: they are there, though not all of them are judged
    assert beyond.extremes == pytest.approx((0.45, 0.5))


def test_beyond_the_draws_there_is_no_mean_but_there_are_limits():
    summaries = [summarize_fixed(5, c, 0, ks=(20,)) for c in (1, 2, 0, 0) * 15]
    once, many = summarize_set(summaries, [str(i) for i in range(60)])
    assert (many.mean, many.extremes) == (None, None)
    assert many.interval[1] == pytest.approx(1 - (1 - once.interval[1]) ** 20)
    (five,) = summarize_set([summarize_fixed(5, 2, 0, ks=(20,))], ["a"])[1:]
    assert five.mean is None  # no unbiased estimate, although every prompt had an unsafe draw
    same = [summarize_fixed(5, c, 0, ks=(5,)) for c in (1, 2, 0, 0) * 15]
    assert many.interval[0] == summarize_set(same, [str(i) for i in range(60)])[1].interval[0]


@pytest.mark.parametrize("law", ["two", "rare"])
def test_the_set_covers_beyond_the_draws(law):
    """P(at least one in 30) from 8 draws each; 95% must cover, and limits are conservative."""
    rng = np.random.default_rng(11)

    def risks(n: int) -> np.ndarray:
        if law == "two":
            return np.where(rng.random(n) < 0.2, 0.4, 0.01)
        return rng.beta(0.1, 2, n)

    truth = (1 - (1 - risks(200_000)) ** 30).mean()
    held = 0
    for _ in range(200):
        drawn = rng.binomial(8, risks(40))
        summaries = [summarize_fixed(8, int(c), 0, ks=(30,)) for c in drawn]
        found = summarize_set(summaries, [str(i) for i in range(40)])[1]
        held += found.interval[0] <= truth <= found.interval[1]
    assert held >= 180


def test_what_cannot_be_is_refused():
    for bad in ((0, 0, 0), (5, -1, 0)):
        with pytest.raises(UsageError, match="counts must not be negative, and draws at least 1"):
            summarize_fixed(*bad)
    with pytest.raises(UsageError, match="4 unsafe \\+ 2 missing exceed 5 draws"):
        summarize_fixed(5, 4, 2)
    with pytest.raises(UsageError, match="--confidence"):
        summarize_fixed(5, 1, 0, confidence=95)
    with pytest.raises(UsageError, match="--alpha"):
        summarize_fixed(5, 1, 0, alpha=0)


def draw_of(name: str, stream: str, index: int) -> Draw:
    return Draw(
        prompt_id=name,
        stream=stream,
        index=index,
        token_ids=(1,),
        text="x",
        finish_reason="stop",
        log_prob=0.0,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger with a stream of each kind, and draws by a proposal."""
    target = KnownRiskTarget({"a": 0.1})
    manifest.write_manifest(
        tmp_path,
        manifest.full_manifest(
            command="bound",
            contract=target.contract,
            target="known-risk",
            engine={},
            judge="words",
            judge_id="words@1",
            threshold=0.5,
            options={"seed": 0},
        ),
    )

    with Ledger.open(
        tmp_path, run="r", contract=target.contract, judge_id="words@1", seed=0
    ) as ledger:
        for index in range(1, 501):
            ledger.append(draw_of("a", "train", index), Verdict(0.0), "fixed")
            score = None if index == 500 else float(index <= 7)
            ledger.append(draw_of("b", "train", index), Verdict(score, "lost"), "fixed")
        # out of order, one beyond the event, and another prompt without an event
        for index, score in ((2, 0.0), (1, 0.2), (4, 1.0), (3, 0.9)):
            ledger.append(draw_of("a", "calibration", index), Verdict(score), "first-event")
        for index in (1, 2, 3):
            ledger.append(draw_of("b", "calibration", index), Verdict(0.0), "first-event")
        ledger.append(draw_of("a", "risk", 1), Verdict(1.0), "fixed", proposal="x")
        ledger.append(draw_of("a", "risk", 2), Verdict(0.0), "fixed")
    return tmp_path


def test_a_run_by_its_streams(folder):
    result = summarize_run(folder, ks=(10,))
    by_name = {stream.stream: stream for stream in result.streams}
    assert set(by_name) == {"train", "calibration", "risk"}
    train = dict(zip(by_name["train"].ids, by_name["train"].prompts, strict=True))
    assert train["a"] == summarize_fixed(500, 0, 0, ks=(10,))
    assert train["b"] == summarize_fixed(500, 7, 1, ks=(10,))
    stopped = by_name["calibration"]
    followed = dict(zip(stopped.ids, stopped.prompts, strict=True))
    assert followed["a"] == summarize_first_event(3, unsafe=True, ks=(10,))
    assert followed["b"] == summarize_first_event(3, unsafe=False, ks=(10,))
    assert by_name["risk"].weighted == 1
    assert by_name["risk"].prompts[0].draws == 1
    assert json.loads((folder / "summary.json").read_text())["schema"] == 1


def test_another_threshold_only_where_it_did_not_stop(folder):
    with pytest.raises(UsageError, match="stopped at the first score"):
        summarize_run(folder, threshold=0.95)
    for k in (0, -1, 10**400):
        with pytest.raises(UsageError, match="--k takes"):
            summarize_run(folder, ks=(k,))
    for threshold in (0.0, 2.0, float("nan")):
        with pytest.raises(UsageError, match="--threshold must lie in"):
            summarize_run(folder, threshold=threshold)
    with pytest.raises(UsageError, match="not a run folder"):
        summarize_run(folder / "nothing")


def test_the_command(folder, monkeypatch, capsys):
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tailbound", "summarize", str(folder), *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        return capsys.readouterr().out

    out = run()
    assert "Stream train (a fixed number of draws: binomial)" in out
    assert "6.0e-03" in out
    said = " ".join(out.split())
    assert "'P(unsafe)': of one draw, estimated by unsafe / judged draws; 'at most'" in said
    assert "biased upwards where drawing stops at the first unsafe one; 'at most'" in said
    assert "1 draws came from proposals" in out
    document = json.loads(run("--json", "--k", "5"))
    rows = {row["id"]: row for row in document["streams"][2]["prompts"]}
    assert rows["a"]["at_least_one"][0]["k"] == 5


def test_weighted_draws_of_a_bound_are_in_one_line(folder, cli):
    with Ledger.open(
        folder, run="r", contract=KnownRiskTarget({"a": 0.1}).contract, judge_id="words@1", seed=0
    ) as ledger:
        for index, proposal in ((1, "x"), (2, "y"), (3, None)):
            ledger.append(draw_of("a", "weighted", index), Verdict(1.0), "fixed", proposal=proposal)
    code, out, _ = cli("summarize", folder)
    assert code == 0
    assert "risk.json" not in out
    assert out.endswith(
        "\nStream weighted: 2 of its 3 draws came from proposals, and count by their weights: "
        "bound.json holds the result\n"
    )


def test_draws_that_never_began_are_left_out(folder):
    """A run killed while draw 1 was unfinished: draw 2 is on record, draw 1 is not."""
    with Ledger.open(
        folder, run="r", contract=KnownRiskTarget({"a": 0.1}).contract, judge_id="words@1", seed=0
    ) as ledger:
        ledger.append(draw_of("c", "calibration", 2), Verdict(1.0), "first-event")
        ledger.append(draw_of("d", "calibration", 1), Verdict(None, "lost"), "first-event")
        ledger.append(draw_of("d", "calibration", 2), Verdict(1.0), "first-event")
    (stream,) = (s for s in summarize_run(folder).streams if s.stream == "calibration")
    assert stream.ids == ("a", "b", "d")
    assert stream.prompts[2] == summarize_first_event(1, unsafe=False, missing=True, ks=(10, 100))


def test_later_rounds_of_a_risk_run_are_left_out(folder):
    """Their number depended on the first round, so no interval for a fixed number holds."""
    with Ledger.open(
        folder, run="r", contract=KnownRiskTarget({"a": 0.1}).contract, judge_id="words@1", seed=0
    ) as ledger:
        for index in range(3, 9):
            ledger.append(draw_of("a", "risk", index), Verdict(1.0), "fixed")
    write_round(folder, 1, Round(proposals=[None], sequential=True, batches={"a": [3, 1]}))
    (stream,) = (s for s in summarize_run(folder).streams if s.stream == "risk")
    assert (stream.prompts[0].draws, stream.prompts[0].unsafe) == (3, 2)
    assert (stream.weighted, stream.later) == (1, 4)
    (folder / "plan" / "round-0001.json").write_text("{")
    with pytest.raises(LedgerError, match=r"round-0001.json is damaged"):
        summarize_run(folder)


def test_a_run_of_proposals_alone_says_so(folder, monkeypatch, capsys):
    """Nothing of the target itself in the first round: an empty answer would look like a fault."""
    for shard in folder.glob("draws/*.parquet"):
        shard.unlink()
    with Ledger.open(
        folder, run="r", contract=KnownRiskTarget({"a": 0.1}).contract, judge_id="words@1", seed=0
    ) as ledger:
        ledger.append(draw_of("a", "risk", 1), Verdict(1.0), "fixed", proposal="x")
        ledger.append(draw_of("a", "risk", 2), Verdict(1.0), "fixed")
    write_round(folder, 1, Round(proposals=[None], sequential=False, batches={}))
    monkeypatch.setattr(sys, "argv", ["tailbound", "summarize", str(folder)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "no draws by the target itself" in capsys.readouterr().out


def test_copied_and_damaged_shards_are_named(folder):
    (shard,) = folder.glob("draws/*.parquet")
    copy = shard.with_name("part-000009.parquet")
    copy.write_bytes(shard.read_bytes())
    with pytest.raises(LedgerError, match="twice: was a shard in draws/ copied"):
        summarize_run(folder)
    copy.unlink()
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(LedgerError, match=f"{shard.name} is damaged"):
        summarize_run(folder)


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ((0.0, 0.00597), "0 to 6.0e-03"),
        ((0.99266, 1.0), "0.9926 to 1"),
        ((0.9999261, 1.0), "0.999926 to 1"),
        ((0.18041, 0.18309), "0.1804 to 0.1831"),
        ((0.3, 0.5), "0.30 to 0.50"),
        ((0.0011, 0.85), "1.1e-03 to 0.85"),
        ((0.0999, 0.3), "9.9e-02 to 0.30"),
        ((0.0, 0.09999), "0 to 0.100"),
    ],
)
def test_limits_are_rounded_outward_and_never_meet(limits, shown):
    assert _interval(limits) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.999999999976, ">0.999999"), (0.9998, "0.99980"), (1.0, "1"), (3e-9, "3.0e-09")],
)
def test_no_more_digits_than_say_something(value, shown):
    assert _digits(value) == shown


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_shown_holds_what_was_computed(one, two):
    low, high = sorted((round(one, 9), round(two, 9)))
    assume(low < high)
    left, right = map(float, _interval((low, high)).split(" to "))
    assert left <= low < high <= right
    assert left >= low - 0.02
    assert right <= high + 0.02


def test_ids_are_shown_as_they_are(folder, monkeypatch, capsys):
    """Neither markup nor control characters reach the terminal."""
    with Ledger.open(
        folder, run="r", contract=KnownRiskTarget({"a": 0.1}).contract, judge_id="words@1", seed=0
    ) as ledger:
        ledger.append(draw_of("[/x]\x1b\n", "train", 1), Verdict(1.0), "fixed")
    monkeypatch.setattr(
        sys, "argv", ["tailbound", "summarize", str(folder), "--confidence", ".995"]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    out = capsys.readouterr().out
    assert r"[/x]\x1b\n" in out
    assert "one-sided 99.5%" in out


def test_thousands_of_prompts_take_no_time(tmp_path):
    """20,000 prompts of 5 draws, each its own cluster: it was minutes, a frame per prompt."""
    path = tmp_path / "t.parquet"
    rng = np.random.default_rng(0)
    pl.DataFrame(
        {
            "id": np.repeat([f"p{i}" for i in range(20_000)], 5),
            "score": (rng.random(100_000) < 0.1).astype(float),
        }
    ).write_parquet(path)
    import_run(path, tmp_path / "run")
    start = time.process_time()
    found = summarize_run(tmp_path / "run")
    ours = time.process_time() - start
    start = time.process_time()
    json.dumps(found.to_dict(), indent=2)
    plain = time.process_time() - start
    assert ours < 4 * plain, "summarizing takes much longer than putting the summary into words"
    assert len(found.streams[0].ids) == 20_000
