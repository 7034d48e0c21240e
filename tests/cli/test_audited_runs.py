"""`tailbound audit-judge` on weighted draws and on bounds, and who uses what it found."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.core.contract import Verdict
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.judges import Exchange
from tailbound.workflows.audit_judge import JudgeAudit, JudgeSample
from tailbound.workflows.audit_judge.fresh import fresh_audit
from tailbound.workflows.compare import CompareResult


class Truth:
    """A better judge: `unsafe` decides by the response."""

    threshold = 0.5

    def __init__(self, unsafe: Callable[[str], bool], name: str = "truth@1") -> None:
        self.unsafe, self.id = unsafe, name

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict(float(self.unsafe(one.response))) for one in exchanges]


def audit(run: Path, judge: object = None, **options: Any) -> Any:
    return tailbound.audit_judge(run, judge, progress=None, **options)  # type: ignore[arg-type]


# --- weighted draws ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighted_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted") / "run"
    tailbound.risk(default_prompts(3), out=folder, draws=60, max_new_tokens=12, progress=None)
    return folder


@pytest.fixture
def weighted(weighted_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(weighted_run, tmp_path / "weighted")


def even(response: str) -> bool:
    return len(response) % 2 == 0


def test_all_labels_of_weighted_draws_give_their_weighted_sum(weighted: Path) -> None:
    run = tailbound.load_run(weighted)
    assert run.risk is not None
    found = audit(weighted, Truth(even), negatives=1_000)
    assert found.weighted
    # as judged: the mean risk of the run itself
    assert found.overall.uncorrected.rate == pytest.approx(run.risk.whole.mean)
    counts = {(one.prompt_id, one.index): one.counts for one in found.labels}
    texts = {
        (name, index): text
        for name, index, text in run.draws.filter(pl.col("stream") == "risk")
        .select("prompt_id", "index", "text")
        .iter_rows()
    }
    due = sum(counts[key] for key in counts if even(texts[key]))
    assert found.overall.corrected.estimate == pytest.approx(min(due, 1.0))
    assert found.overall.corrected.on_record == pytest.approx((min(due, 1.0),) * 2)
    low, high = found.overall.corrected.interval
    assert low < due < high
    assert found.errors.caught + found.errors.missed == pytest.approx(due)
    # every draw that counts something was labelled, and no other
    assert {one.reason for one in found.left_out} <= {"safe, without a weight on record"}
    assert JudgeAudit.from_json(found.to_json()) == found
    assert tailbound.load_run(weighted).judge_audit == found


def test_labels_go_where_draws_count_most(weighted: Path, tmp_path: Path) -> None:
    sample = audit(weighted, sheet=tmp_path / "sheet.csv", positives=10, negatives=10)
    assert isinstance(sample, JudgeSample)
    parts = {(one.recorded, one.part) for one in sample.strata}
    assert parts == {("unsafe", "all"), ("safe", "light"), ("safe", "heavy")}
    unsafe = next(one for one in sample.strata if one.recorded == "unsafe")
    picked = [one.counts or 0.0 for one in sample.rows if one.recorded == "unsafe"]
    assert unsafe.counted is not None
    assert len(picked) == unsafe.sampled <= 10
    assert unsafe.inclusion_probability is None
    assert np.mean(picked) > unsafe.counted.total / unsafe.draws
    heavy = [one for one in sample.strata if one.part == "heavy"]
    assert heavy[0].counted is not None
    assert heavy[0].counted.total > 0.5
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [{**row, "label": "safe"} for row in csv.DictReader(file)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    found = audit(weighted, labels=tmp_path / "labels.csv")
    assert found.overall.corrected.estimate == 0
    assert found.overall.if_light is not None
    assert found.overall.if_light[1] < found.overall.corrected.interval[1]
    assert any("heavy draws" in one for one in found.warnings)


def test_verify_makes_a_weighted_audit_again(weighted: Path) -> None:
    audit(weighted, Truth(even), positives=20, negatives=20)
    checked = tailbound.verify(weighted, progress=None)
    assert "judge-audit.json" in {one.name for one in checked.checks}
    assert checked.matches
    assert audit(weighted, Truth(even), positives=20, negatives=20).labels == (
        fresh_audit(weighted)[0].labels  # type: ignore[union-attr]
    )


def test_weights_go_with_the_threshold_of_the_run(weighted: Path) -> None:
    with pytest.raises(UsageError, match="does not go with weighted draws"):
        audit(weighted, Truth(even), recorded_threshold=0.4)
    (weighted / "risk.json").unlink()
    with pytest.raises(UsageError, match=r"no risk\.json yet: finish tailbound risk"):
        audit(weighted, Truth(even))


def test_what_is_printed_of_weighted_draws(weighted: Path) -> None:
    found = CliRunner().invoke(
        app, ["audit-judge", str(weighted), "--judge", "regex:a", "--no-prompts"]
    )
    assert found.exit_code == 0, found.output
    assert "safe, heavy" in found.output
    assert "if no heavy draw is unsafe" in found.output
    assert max(map(len, found.output.splitlines())) <= 80


# --- bounds -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bound") / "run"
    tailbound.bound(
        default_prompts(40), out=folder, judge="regex:will not", budget=8, train_draws=4,
        test_draws=60, alpha=0.4, max_new_tokens=4, replicates=1, progress=None,
    )  # fmt: skip
    return folder


@pytest.fixture
def bound(bound_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bound_run, tmp_path / "bound")


def refusing(response: str) -> bool:
    """What the judge of the run itself calls unsafe."""
    return "will not" in response


def test_bounds_lose_what_the_judge_missed(bound: Path) -> None:
    """With every draw before the bounds labelled, its misses are counted."""
    run = tailbound.load_run(bound)
    assert run.bound is not None
    assert run.predictions is not None
    every = audit(bound, Truth(lambda text: True), before_bounds=10_000).bounds
    assert every is not None
    rows = run.predictions.select("lower_bound", "first_unsafe").rows()
    passed = [bound - 1 for bound, first in rows if first == 0 or first >= bound]
    assert every.sampled.prompts == len(rows)
    assert every.sampled.passed == len(passed)
    assert every.sampled.draws == sum(passed) == every.labelled == every.unsafe > 0
    assert every.sampled.alpha == 0.4
    none = audit(bound, Truth(refusing, "other@1"), before_bounds=10_000).bounds
    assert none is not None
    assert none.unsafe == 0
    # nothing was missed in so many test prompts: the limit of Clopper and Pearson
    assert none.misses.chance == pytest.approx(1 - 0.025 ** (1 / len(rows)), rel=0.05)
    assert none.at_most < every.at_most
    assert audit(bound, Truth(even), before_bounds=0).bounds is None
    assert tailbound.verify(bound, progress=None).matches


def test_a_report_says_what_bounds_are_worth(bound: Path) -> None:
    audit(bound, Truth(refusing, "other@1"), before_bounds=10_000)
    page = tailbound.report(bound, format="md", progress=None)
    text = Path(page.path).read_text()
    assert "Counting also unsafe draws that its judge missed" in page.answers[0].answer
    assert "### Judge error" in text
    assert "P(truly unsafe before the bound)" in text


# --- who uses an audit ------------------------------------------------------------------------


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Path]:
    """2,000 draws; the judge calls a tenth unsafe, and `bad` of each hundred are."""

    def make(name: str, bad: int, draws: int = 2_000) -> Path:
        rows = [
            {
                "prompt_id": f"p{n % 20}",
                "prompt": f"question {n % 20}",
                "response": f"{'bad' if (n // 20) % 100 < bad else 'good'} {n}",
                "score": float((n // 20) % 10 == 0),
            }
            for n in range(draws)
        ]
        source = tmp_path / f"{name}.jsonl"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        tailbound.import_draws(source, tmp_path / name, progress=None)
        tailbound.summarize(tmp_path / name)
        return tmp_path / name

    return make


def bad(response: str) -> bool:
    return response.startswith("bad")


def add_draws(run: Path) -> None:
    """Draws of one more prompt."""
    more = run.with_name("more.jsonl")
    rows = [{"prompt_id": "new", "response": f"good {n}", "score": 0.0} for n in range(20)]
    more.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    tailbound.import_draws(more, run, progress=None)


def test_a_gate_on_the_corrected_rate(imported: Callable[..., Path]) -> None:
    run = imported("run", bad=2)

    def assess(text: str) -> Any:
        return tailbound.gate(run, require=[text]).assessments[0]

    none = assess("corrected<=.05")
    assert none.outcome == "cannot tell"
    assert "run tailbound audit-judge" in none.detail
    audit(run, Truth(bad), negatives=300)
    low, high = fresh_audit(run)[0].overall.corrected.interval  # type: ignore[union-attr]
    assert low < 0.02 < high
    met, failed, unknown = map(
        assess, (f"corrected<={high + 1e-6:.9f}", f"corrected<={low / 2:.9f}", "corrected<=.032")
    )
    assert [one.outcome for one in (met, failed, unknown)] == ["met", "failed", "cannot tell"]
    assert "as judged" in met.detail
    assert unknown.unit == "labels"
    # the labels of some of the 1,500 draws that have none would tell
    assert unknown.more is not None
    assert 100 < unknown.more < 1_000
    audit(run, Truth(bad), negatives=2_000)
    assert assess("corrected<=.032").outcome == "met"
    beyond = assess("corrected<=.02")
    assert beyond.outcome == "cannot tell"
    assert beyond.more is None
    assert "labels of all draws on record would not tell" in beyond.detail
    # the recorded rate is five times as much, and the gate on it says so
    assert assess("unsafe_rate<=.032").outcome != "met"


def test_a_stale_audit_is_named_and_not_used(imported: Callable[..., Path]) -> None:
    run, other = imported("run", bad=2), imported("other", bad=2)
    audit(run, Truth(bad))
    audit(other, Truth(bad))
    add_draws(run)
    tailbound.summarize(run)
    found = tailbound.gate(run, require=["corrected<=.5"]).assessments[0]
    assert found.outcome == "cannot tell"
    assert "draws were added since judge-audit.json was made" in found.detail
    page = tailbound.report(run, format="md", progress=None)
    assert "Corrected" not in page.answers[0].answer
    assert any("The audit of the judge is not used" in one for one in page.answers[0].warnings)
    compared = tailbound.compare(run, other, progress=None)
    assert compared.corrected is None
    assert compared.not_corrected is not None
    assert "draws were added" in compared.not_corrected


def test_an_audit_under_another_threshold_or_an_older_sample_is_not_used(
    imported: Callable[..., Path], tmp_path: Path
) -> None:
    run = imported("run", bad=2)
    audit(run, Truth(bad), recorded_threshold=0.9)
    found, why = fresh_audit(run)
    assert found is None
    assert why is not None
    assert "without --recorded-threshold" in why
    audit(run, sheet=tmp_path / "sheet.csv")
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = [{**row, "label": "safe"} for row in csv.DictReader(file)]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    add_draws(run)
    audit(run, labels=tmp_path / "labels.csv")
    found, why = fresh_audit(run)
    assert found is None
    assert why is not None
    assert "since the sample of judge-audit.json was drawn" in why


def test_compare_has_the_corrected_change_beside_the_other(imported: Callable[..., Path]) -> None:
    """As judged nothing changed; by labels B is four times as unsafe."""
    a, b = imported("a", bad=2), imported("b", bad=8)
    assert tailbound.compare(a, b, progress=None).not_corrected is None
    audit(a, Truth(bad), negatives=1_000)
    lacking = tailbound.compare(a, b, progress=None)
    assert lacking.corrected is None
    assert lacking.not_corrected == (
        f"rates are not corrected: {b}: no audit of its judge (tailbound audit-judge)"
    )
    audit(b, Truth(bad), negatives=1_000)
    found = tailbound.compare(a, b, progress=None)
    assert found.mean.difference == 0
    change = found.corrected
    assert change is not None
    assert change.difference == pytest.approx(0.06, abs=0.02)
    assert 0 < change.interval[0] < 0.06 < change.interval[1]
    assert change.a.uncorrected == change.b.uncorrected == 0.1
    assert CompareResult.from_json(found.to_json()) == found
    sequential = tailbound.compare(a, b, sequential=True, progress=None)
    assert sequential.corrected is None
    assert "hold for one look" in (sequential.not_corrected or "")
    printed = CliRunner().invoke(app, ["compare", str(a), str(b)]).output
    assert "as judged 0.1, 0.1" in printed
    other = audit(b, Truth(bad, "another@1"), negatives=1_000)
    assert other.made_with.judge_id != change.a.labels_by
    warned = tailbound.compare(a, b, progress=None).warnings
    assert any("one of who labelled" in one for one in warned)


def test_a_report_has_both_rates_and_the_comparison(imported: Callable[..., Path]) -> None:
    a, b = imported("a", bad=2), imported("b", bad=8)
    for run in (a, b):
        audit(run, Truth(bad), negatives=1_000)
    page = tailbound.report(a, b, out=a.parent / "page.md", format="md", progress=None)
    text = Path(page.path).read_text()
    assert "Corrected for the mistakes of its judge by 1,200 labels" in page.answers[0].answer
    assert "## Comparison" in text
    assert "corrected change" in text
    assert text.count("### Judge error") == 2
    assert "corrected by labels" in text
    html = tailbound.report(a, b, out=a.parent / "page.html", progress=None)
    assert "Judge error" in Path(html.path).read_text()


def test_a_report_shows_how_much_the_wording_matters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "prompt_id": f"p{i}", "group": f"g{i // 3}", "response": "x",
            "score": float(rng.random() < 0.02 * (1 + i % 3) ** 2),
        }
        for i in range(60)
        for _ in range(60)
    ]  # fmt: skip
    source = tmp_path / "draws.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run = tmp_path / "run"
    tailbound.import_draws(source, run, progress=None)
    before = tailbound.report(run, format="md", progress=None)
    assert "Sensitivity to wording" not in Path(before.path).read_text()
    tailbound.summarize(run)
    after = tailbound.report(run, format="md", progress=None)
    assert "Sensitivity to wording" in Path(after.path).read_text()


def test_a_forecast_from_a_stale_summary_is_refused(imported: Callable[..., Path]) -> None:
    run = imported("run", bad=2)
    tailbound.forecast_deployment(run, draws=(100,), progress=None)
    add_draws(run)
    for ask in (tailbound.forecast_deployment, tailbound.sensitivity):
        with pytest.raises(UsageError, match=r"draws were added since summary\.json was made"):
            ask(run, progress=None)  # type: ignore[operator]
    tailbound.summarize(run)
    assert tailbound.forecast_deployment(run, draws=(100,), progress=None).evaluated == 21
    shutil.rmtree(run / "results")
    unknown = tailbound.forecast_deployment(run, draws=(100,), progress=None)
    assert any("does not say which draws" in one for one in unknown.warnings)


def test_names_that_are_too_long_are_mistakes_of_usage(
    imported: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, name = imported("run", bad=2), "x" * 300
    for options in (
        {"no_worse_than": Path(name)},
        {"require": ["unsafe_rate<=1"], "junit": Path(f"{name}.xml")},
        {"require": ["unsafe_rate<=1"], "markdown": Path(f"{name}.md")},
    ):
        with pytest.raises(UsageError, match="not a name that can be used"):
            tailbound.gate(run, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a name that can be used"):
        tailbound.gate(name, require=["unsafe_rate<=1"])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", f"/tmp/{name}")
    found = CliRunner().invoke(app, ["gate", str(run), "--require", "unsafe_rate<=1"])
    assert isinstance(found.exception, UsageError)
