"""A gate: what is shown is met, what is contradicted fails, all else cannot be told."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from scipy.stats import binom

import tailbound
from sizes import size
from tailbound.cli.render.gate import gate as render
from tailbound.core.prompt import Prompt
from tailbound.demo.files import default_prompts
from tailbound.deployment.requirements import decide
from tailbound.errors import UsageError
from tailbound.importance_sampling import RiskEstimate
from tailbound.runs.prompts import keep_table, kept_table
from tailbound.storage.documents import read_json
from tailbound.storage.files import write_json
from tailbound.terminal.safe import SafeConsole
from tailbound.workflows.gate import GateResult
from tailbound.workflows.gate.assessment import Assessment
from tailbound.workflows.gate.grammar import parse
from tailbound.workflows.gate.quantities import Known, worst
from tailbound.workflows.gate.writing import junit, markdown
from tailbound.workflows.risk.results import PromptRisk, whole_set


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Risks that are resolved, because many replies hold the word; a bound; imported draws."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    prompts = default_prompts(60)
    tailbound.risk(
        prompts[:8], out=folder / "risk", draws=40, proposal="none", judge="regex:cannot",
        max_new_tokens=4, progress=None,
    )  # fmt: skip
    tailbound.summarize(folder / "risk", k=(5,))
    tailbound.forecast_deployment(folder / "risk", draws=(10,), progress=None)
    tailbound.bound(
        prompts, out=folder / "bound", budget=6, train_draws=6, test_draws=30, alpha=0.3,
        max_new_tokens=8, progress=None,
    )  # fmt: skip
    rows = [
        {"prompt_id": f"p{i}", "response": "x", "score": float(i == draw == 0)}
        for i in range(30)
        for draw in range(20)
    ]
    rows[1]["score"] = None
    source = folder / "draws.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    tailbound.import_draws(source, folder / "import", progress=None)
    tailbound.summarize(folder / "import", k=(10,))
    tailbound.forecast_deployment(folder / "import", draws=(100,), progress=None)
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def assess(folder: Path, *require: str) -> tuple[Assessment, ...]:
    return tailbound.gate(folder, require=require).assessments


def edit(path: Path, **values: Any) -> None:
    """Change a result, and its history with it."""
    document = {**read_json(path), **values}
    write_json(path, document)
    for held in path.parent.glob(f"results/*-{path.stem}.json"):
        write_json(held, {**read_json(held), "result": document})


def test_coverage_by_the_ends_of_its_interval(runs: Path) -> None:
    found = tailbound.load_run(runs / "bound").evaluation
    assert found is not None
    assert found.overall.interval is not None
    low, high = found.overall.interval
    met, failed, open_ = assess(
        runs / "bound",
        f"coverage>={low - 1e-6:.9f}",
        f"coverage>={min(1.0, high + 1e-6):.9f}",
        f"coverage>={(low + high) / 2:.9f}",
    )
    assert met.outcome == "met"
    assert failed.outcome == ("failed" if high < 1 else "cannot tell")
    assert open_.outcome == "cannot tell"
    assert (open_.low, open_.high) == (low, high)


def test_the_share_of_prompts_whose_bound_is_long_enough(runs: Path) -> None:
    table = tailbound.load_run(runs / "bound").predictions
    assert table is not None
    bounds = np.array(table["lower_bound"].to_list())
    every, none, half = assess(
        runs / "bound", "bound>=1@p50", "bound>=1000000@p50", f"bound>={np.median(bounds):g}@p50"
    )
    assert (every.outcome, every.estimate) == ("met", 1.0)
    assert (none.outcome, none.estimate) == ("failed", 0.0)
    assert half.estimate == np.mean(bounds >= np.median(bounds))
    # all but a tenth is more than half of them
    assert parse("bound>=5@p10").share == pytest.approx(0.9)  # type: ignore[attr-defined]


def test_risks_that_are_resolved(runs: Path) -> None:
    risk = tailbound.load_run(runs / "risk").risk
    assert risk is not None
    assert risk.whole.resolved == risk.whole.prompts
    assert risk.whole.interval is not None
    low, high = risk.whole.interval
    limits = [high + 1e-9, low - 1e-9]
    met, failed = assess(runs / "risk", *(f"risk<={min(limit, 1.0):.12f}" for limit in limits))
    assert (met.outcome, failed.outcome) == ("met", "failed")
    middle = assess(runs / "risk", f"risk<={(risk.whole.mean + high) / 2:.9f}")[0]
    assert middle.words.startswith("cannot tell: about ")
    assert middle.unit == "prompts"


def test_nothing_that_is_withheld_is_met(runs: Path) -> None:
    """Unresolved, missing verdicts, no interval: never met, whatever the numbers."""
    document = read_json(runs / "risk" / "risk.json")

    def outcome(**changes: Any) -> Assessment:
        first, *rest = document["prompts"]
        whole = dict(document["set"])
        whole |= {k: changes.pop(k) for k in ("interval", "resolved") if k in changes}
        edit(runs / "risk" / "risk.json", set=whole, prompts=[{**first, **changes}, *rest])
        (found,) = assess(runs / "risk", "risk<=1")
        return found

    assert outcome().outcome == "met"
    assert outcome(interval=None).outcome == "cannot tell"
    assert "7 draws have no verdict" in outcome(missing=7).detail
    found = outcome(resolved=document["set"]["resolved"] - 1)
    assert found.outcome == "cannot tell"
    assert "are not resolved" in found.detail


def test_the_certified_lower_bound_contradicts_what_is_not_resolved(runs: Path) -> None:
    whole = read_json(runs / "risk" / "risk.json")["set"]
    edit(runs / "risk" / "risk.json", set={**whole, "resolved": 0})
    assert whole["certified_lower"] > 1e-6
    assert assess(runs / "risk", "risk<=1e-6")[0].outcome == "failed"


def test_rates_of_imported_draws(runs: Path) -> None:
    summary = tailbound.load_run(runs / "import").summary
    assert summary is not None
    (stream,) = summary.streams
    high = stream.whole[0].interval[1]
    met, open_, ten = assess(
        runs / "import", f"unsafe_rate<={high + 1e-6}", "unsafe_rate<=.001", "p_unsafe@10<=.9999"
    )
    assert met.outcome == "met"
    assert "1 draws without a verdict count as unsafe" in met.detail
    assert open_.outcome == "cannot tell"
    assert ten.high == stream.whole[1].interval[1]
    other = assess(runs / "import", "p_unsafe@77<=.5")[0]
    assert other.outcome == "cannot tell"
    assert "tailbound summarize --k 77" in other.detail


def test_forecasts(runs: Path) -> None:
    forecast = tailbound.load_run(runs / "import").forecast
    assert forecast is not None
    (traffic,) = forecast.traffic
    met, chance, worst, other = assess(
        runs / "import",
        f"expected@100<={traffic.expected_interval[1] + 1e-6}",
        "at_least_one@100<=.0001",
        "worst@300<=.5",
        "expected@5<=1",
    )
    assert met.outcome == "met"
    assert chance.outcome != "met"
    assert worst.outcome == "cannot tell"  # queries without an unsafe draw are not resolved
    assert "tailbound forecast --draws 5" in other.detail


def test_a_forecast_of_risks_that_are_not_resolved(runs: Path) -> None:
    forecast = read_json(runs / "risk" / "forecast.json")
    assert assess(runs / "risk", "expected@10<=1000")[0].outcome == "met"
    edit(runs / "risk" / "forecast.json", resolved=forecast["resolved"] - 1)
    assert assess(runs / "risk", "expected@10<=1000")[0].outcome == "cannot tell"


def test_what_the_run_does_not_have_cannot_be_told(runs: Path) -> None:
    for text in ("risk<=1", "unsafe_rate<=1", "expected@10<=9"):
        (found,) = assess(runs / "bound", text)
        assert found.outcome == "cannot tell"
        assert "run tailbound" in found.detail


def test_a_result_that_is_older_than_its_draws_is_not_relied_on(runs: Path) -> None:
    old = (runs / "risk" / "risk.json").read_bytes()
    tailbound.risk(
        default_prompts(8), out=runs / "risk", draws=60, proposal="none", judge="regex:cannot",
        max_new_tokens=4, progress=None,
    )  # fmt: skip
    (runs / "risk" / "risk.json").write_bytes(old)
    (found,) = assess(runs / "risk", "risk<=1")
    assert (found.outcome, found.low) == ("cannot tell", None)
    assert "draws were added since risk.json" in found.detail


def test_a_result_of_unknown_draws_is_not_relied_on(runs: Path) -> None:
    """No history, or one that holds another result: nobody knows which draws it rests on."""
    limits = {"risk": "risk<=1", "bound": "coverage>=0", "import": "unsafe_rate<=1"}
    for name, text in limits.items():
        assert assess(runs / name, text)[0].outcome == "met"
        (runs / name / "results").rename(runs / "elsewhere")
        (found,) = assess(runs / name, text)
        assert (found.outcome, found.low) == ("cannot tell", None)
        assert "does not say which draws" in found.detail
        (runs / "elsewhere").rename(runs / name / "results")
    whole = read_json(runs / "risk" / "risk.json")
    write_json(runs / "risk" / "risk.json", {**whole, "left_out": ["p"]})
    assert assess(runs / "risk", "risk<=1")[0].outcome == "cannot tell"
    assert assess(runs / "risk", "expected@10<=1000")[0].outcome == "cannot tell"


def test_a_result_under_another_threshold_is_not_relied_on(runs: Path) -> None:
    tailbound.summarize(runs / "import", threshold=1.0)
    (found,) = assess(runs / "import", "unsafe_rate<=1")
    assert (found.outcome, found.high) == ("cannot tell", None)
    assert "at least 1 as unsafe, the run those of at least 0.5" in found.detail
    tailbound.forecast_deployment(runs / "import", draws=(100,), progress=None)
    for text in ("expected@100<=100", "worst@300<=1"):
        (found,) = assess(runs / "import", text)
        assert found.outcome == "cannot tell"
        assert "unsafe is a score >= 0.5" in found.detail


def test_a_run_that_stopped_midway_shows_no_rate(runs: Path) -> None:
    assert assess(runs / "import", "unsafe_rate<=1")[0].outcome == "met"
    table = kept_table(runs / "import")
    more = table.head(1).with_columns(id=pl.lit("not drawn"))
    keep_table(runs / "import", pl.concat([table, more]))
    (found,) = assess(runs / "import", "unsafe_rate<=1")
    assert (found.outcome, found.high) == ("cannot tell", None)
    assert "1 prompts have no draw yet" in found.detail


@pytest.mark.parametrize("ends", [(0.0, math.nan), (math.nan, 0.1)])
def test_the_worst_by_one_tail_alone_cannot_be_told(ends: tuple[float, float]) -> None:
    """The larger of two ends is not known where one of them is not."""

    def known(*tails: SimpleNamespace) -> Known:
        forecast = SimpleNamespace(
            worst=SimpleNamespace(forecasts=tails), what="P(unsafe): score >= 0.5", evaluated=30,
            resolved=30, confidence=0.95,
        )  # fmt: skip
        return worst(SimpleNamespace(forecast=forecast, threshold=0.5), 100)  # type: ignore[arg-type]

    one, other = (
        SimpleNamespace(queries=100, method=name, median=0.05, interval=(0.01, 0.1))
        for name in ("gumbel", "pareto")
    )
    assert (known(one, other).high, known(one, other).why) == (0.1, None)
    broken = SimpleNamespace(**{**vars(other), "interval": ends})
    for tails in ((one,), (one, broken), (broken, one)):
        assert (known(*tails).high, known(*tails).low) == (None, None)
        assert known(*tails).why == "not both tails have an interval"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p_unsafe@1_<=.1", "--require takes risk<=X"),
        ("p_unsafe@1__0<=.1", "--require takes risk<=X"),
        ("risk", "--require takes risk<=X"),
        ("", "--require takes risk<=X"),
        ("risk<=1e-3; rm", "--require takes risk<=X"),
        ("risk<1e-3", "--require takes risk<=X"),
        ("harm<=1e-3", "no quantity 'harm'; it takes risk<=X"),
        ("risk>=1e-3", "risk takes <="),
        ("coverage<=.9", "coverage takes >="),
        ("coverage>=88", "coverage lies in [0, 1]"),
        ("risk@10<=1e-3", "write risk<=1e-3"),
        ("p_unsafe<=.1", "write p_unsafe@1000<=.1"),
        ("p_unsafe@0<=.1", "lies from 1 to 10^15"),
        ("risk<=.1@p50", "only a bound takes @pSHARE"),
        ("bound>=100", "bound>=100@p50 (half of them)"),
        ("bound>=100@p100", "strictly between p0 and p100"),
        ("risk<=1.2.3", "'1.2.3' is not a usable number"),
        ("risk<=1e999", "'1e999' is not a usable number"),
        ("x" * 1000, "--require takes risk<=X"),
    ],
)
def test_what_is_not_a_requirement_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_bad_calls_come_before_the_run_is_read(tmp_path: Path) -> None:
    for options, said in (
        ({"require": ()}, "at least one --require"),
        ({"require": ("risk<=1", "risk<=1")}, "twice"),
        ({"require": ("risk<=1",), "undecided": "maybe"}, "--undecided must be one of fail, pass"),
        ({"require": ("risk<=1",), "junit": tmp_path}, "cannot be written"),
        ({"require": ("risk<=1",), "markdown": tmp_path / "no" / "file"}, "cannot be written"),
        ({"require": ("risk<=1",)}, "is not a run folder"),
    ):
        with pytest.raises(UsageError, match=said):
            tailbound.gate(tmp_path / "none", **options)


def test_files_of_others_are_not_replaced(runs: Path, tmp_path: Path) -> None:
    manifest = (runs / "bound" / "run.yaml").read_bytes()
    for option in ("junit", "markdown"):
        with pytest.raises(UsageError, match=r"is not an earlier file of tailbound gate"):
            tailbound.gate(runs / "bound", require=["risk<=1"], **{option: runs / "bound/run.yaml"})
    assert (runs / "bound" / "run.yaml").read_bytes() == manifest
    both = tmp_path / "both"
    with pytest.raises(UsageError, match="both name"):
        tailbound.gate(runs / "bound", require=["risk<=1"], junit=both, markdown=both)
    for _ in range(2):
        tailbound.gate(runs / "bound", require=["risk<=1"], junit=both)


def run_gate(folder: Path, *arguments: str, summary: Path | None = None) -> Any:
    environment = {k: v for k, v in os.environ.items() if k != "GITHUB_STEP_SUMMARY"}
    if summary is not None:
        environment["GITHUB_STEP_SUMMARY"] = str(summary)
    return subprocess.run(
        [sys.executable, "-m", "tailbound", "gate", str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_exit_codes_and_files(runs: Path, tmp_path: Path) -> None:
    easy, hard = ("--require", "bound>=1@p50"), ("--require", "risk<=1e-3")
    step, junit_file = tmp_path / "step.md", tmp_path / "gate.xml"
    step.write_text("before\n")
    assert run_gate(runs / "bound", *easy).returncode == 0
    shut = run_gate(runs / "bound", *easy, *hard, "--junit", str(junit_file), summary=step)
    assert shut.returncode == 3
    assert shut.stdout.endswith("not passed: 1 of 2 requirements\n")
    assert max(map(len, shut.stdout.splitlines())) <= 80
    root = ET.fromstring(junit_file.read_text())
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert step.read_text().startswith("before\n### tailbound gate: not passed\n")
    own = tmp_path / "own.md"
    passed = run_gate(
        runs / "bound", *easy, *hard, "--undecided", "pass", "--json", "--markdown", str(own),
        summary=step,
    )  # fmt: skip
    assert passed.returncode == 0
    assert json.loads(passed.stdout)["passed"] is True
    assert own.read_text().startswith("### tailbound gate: passed\n")
    assert step.read_text().count("###") == 1
    wrong = run_gate(runs / "bound", "--require", "harm<=1")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


HOSTILE = (
    'x\x1b[2J\u202e\n| <script>alert(1)</script> ]]> `@all` ![i](http://e.vil) & " \x00 www.e.vil'
)


def hostile() -> GateResult:
    one = Assessment(requirement="risk<=1", outcome="failed", detail=HOSTILE, basis=HOSTILE)
    rest = (replace(one, outcome="met"), replace(one, outcome="cannot tell", more=10))
    return GateResult(
        folder=HOSTILE, target=HOSTILE, judge=HOSTILE, undecided="pass", assessments=(one, *rest)
    )


def test_text_of_others_stays_text_in_xml() -> None:
    root = ET.fromstring(junit(hostile()))
    assert {element.tag for element in root.iter()} == {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "system-out"
    }  # fmt: skip
    (failure,) = root.iter("failure")
    assert "<script>alert(1)</script> ]]>" in (failure.text or "")
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "1", "1")


def test_text_of_others_stays_text_in_markdown() -> None:
    text = markdown(hostile())
    for odd in ("<script", "\x1b", "\u202e", "\x00", "@all", "![", "](", "http://", "www."):
        assert odd not in text
    table = text[text.index("| |") :].strip().splitlines()
    assert len(table) == 5
    assert {line.count("|") for line in table} == {6}


def test_text_of_others_stays_text_on_the_terminal() -> None:
    out: Console = SafeConsole()
    out.file, out.width = io.StringIO(), 80
    render(hostile(), out=out)
    text = out.file.getvalue()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert GateResult.from_json(hostile().to_json()) == hostile()


@pytest.mark.slow
def test_a_false_limit_on_the_mean_risk_is_met_in_about_the_stated_rate() -> None:
    """The asymptotic interval over prompts with unequal risks; the limit is just below the truth.

    Stated are 2.5%. With 400 repeats more than 21 of them met would come by chance in .1%; the
    plain t interval without the allowance for a riskier prompt is met in about 8%.
    """
    rng = np.random.default_rng(1)
    repeats, prompts, draws, mean = size(400, 2000), 60, 200, 0.05
    template = _estimate()
    met = 0
    for _ in range(repeats):
        risks = rng.beta(0.5, 0.5 / mean - 0.5, prompts)
        hits = rng.binomial(draws, risks)
        found = whole_set(
            [
                PromptRisk(
                    prompt=Prompt(id=f"{i}", messages=()),
                    estimate=replace(template, risk=h / draws, hits=int(h), ess_harm=float(h)),
                )
                for i, h in enumerate(hits)
            ],
            confidence=0.95,
            sequential=True,
        )
        assert found.interval is not None
        met += decide("<=", mean - 1e-9, *found.interval) == "met"
    assert met <= binom.ppf(0.999, repeats, 0.025)


def _estimate() -> RiskEstimate:
    return RiskEstimate(
        risk=0.1, standard_error=0.01, certified_lower=0.0, certified_upper=1.0, interval=None,
        precise=True, coverage="checked", resolved=True, status="resolved", ess_harm=10.0, hits=10,
        draws=200, missing=0, missing_range=(0.1, 0.1), mean_weight=1.0, mean_weight_z=0.0,
        largest_share=0.1, agreement=None, needed_draws=None, confidence=0.95, estimand="",
        guarantee="",
    )  # fmt: skip
