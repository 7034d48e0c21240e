"""`tailbound forecast`: sources, the mix, what is printed and kept, and wrong usage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.runs.layout import FORECAST, RISK_TABLE

TABLE = "id,p,low,high,group,weight\n" + "".join(
    f"q{i},{p:.6g},{p / 2:.6g},{min(2 * p, 1):.6g},g{i % 3},{i % 5}\n"
    for i, p in enumerate(np.geomspace(1e-6, 0.05, 60))
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = sorted(default_prompts(900), key=lambda prompt: -exact_risks([prompt])[0].risk)[:20]
    folder = tmp_path_factory.mktemp("forecast") / "run"
    tailbound.risk(prompts, out=folder, draws=100, proposal="none", progress=None)
    return folder


def test_a_table_is_shown_within_80_columns(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["forecast", str(table), "--threshold", ".1"])
    assert done.exit_code == 0, done.output
    assert max(cell_len(line) for line in done.stdout.splitlines()) <= 80
    for part in ("60 evaluated, 60 resolved", "column weight", "gumbel", "pareto", "back-test"):
        assert part in done.stdout
    assert "60 queries come in 3 groups" in done.stdout


def test_a_table_comes_from_standard_input(table: Path) -> None:
    """CSV as from a file: only files of prompts are read as lines of text there."""
    done = CliRunner().invoke(app, ["forecast", "-", "--json"], input=TABLE)
    assert done.exit_code == 0, done.output
    named = CliRunner().invoke(app, ["forecast", str(table), "--json"])
    here, there = (json.loads(one.stdout) for one in (done, named))
    assert here.pop("source") == "-"
    assert there.pop("source") == str(table)
    assert here == there


def test_traffic_follows_the_weights_in_closed_form(table: Path) -> None:
    p = np.array([float(line.split(",")[1]) for line in TABLE.splitlines()[1:]])
    w = np.arange(60) % 5
    found = tailbound.forecast_deployment(table, draws=(500,), progress=None)
    risk = float(w @ p / w.sum())
    assert found.mix.risk == pytest.approx(risk, rel=1e-4)
    assert found.traffic[0].at_least_one == pytest.approx(1 - (1 - risk) ** 500, rel=1e-4)
    assert found.riskiest[0].share == pytest.approx(w[59] * p[59] / (w @ p), rel=1e-4)


def test_weights_of_groups_are_shared_equally(table: Path, tmp_path: Path) -> None:
    mix = tmp_path / "mix.csv"
    mix.write_text("group,weight\ng0,1\ng1,0\ng2,0\n")
    found = tailbound.forecast_deployment(table, weights=str(mix), progress=None)
    p = np.array([float(line.split(",")[1]) for line in TABLE.splitlines()[1:]])
    assert found.mix.risk == pytest.approx(float(p[::3].mean()))
    assert found.weights == "file mix.csv"
    by_column = tailbound.forecast_deployment(table, weights="weight", progress=None)
    assert by_column.weights == "column weight"


def test_a_run_keeps_its_forecast_and_verify_makes_it_again(run: Path) -> None:
    done = CliRunner().invoke(app, ["forecast", str(run), "--json", "--seed", "3"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    kept = tailbound.load_run(run).forecast
    assert kept is not None
    assert kept.to_dict() == found
    assert type(kept).from_json(kept.to_json()).to_dict() == found
    checks = {one.name: one for one in tailbound.verify(run, progress=None).checks}
    assert checks[FORECAST].outcome == "matches"
    document = json.loads((run / FORECAST).read_text())
    assert document["evaluated"] == 20
    assert kept.frame().height >= 4


def test_the_table_of_risks_alone_gives_the_same_traffic(run: Path) -> None:
    whole = tailbound.forecast_deployment(run, progress=None)
    alone = tailbound.forecast_deployment(run / RISK_TABLE, progress=None)
    assert alone.traffic == whole.traffic
    assert alone.resolved == whole.resolved


def test_a_summary_is_a_source(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{q}", "prompt": f"q{q}", "response": f"r{n}", "score": float(n < q)}
        for q in range(12)
        for n in range(40)
    ]
    file = tmp_path / "draws.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    folder = tmp_path / "run"
    tailbound.import_draws(file, folder, progress=None)
    with pytest.raises(UsageError, match="run tailbound risk, or tailbound summarize"):
        tailbound.forecast_deployment(folder, progress=None)
    tailbound.summarize(folder, progress=None)
    found = tailbound.forecast_deployment(folder, progress=None)
    assert found.evaluated == 12
    assert found.mix.risk == pytest.approx(sum(range(12)) / 12 / 40)
    by_file = tailbound.forecast_deployment(folder / "summary.json", progress=None)
    assert by_file.traffic == found.traffic
    with pytest.raises(UsageError, match=r"intervals of .* are 95%"):
        tailbound.forecast_deployment(folder, confidence=0.9, progress=None)


def test_few_queries_still_have_traffic() -> None:
    rows = [{"p": 0.1, "low": 0.05, "high": 0.2}] * 3
    found = tailbound.forecast_deployment(rows, progress=None)
    assert found.worst is None
    assert any("no forecast of the worst query" in line for line in found.warnings)
    with pytest.raises(UsageError, match="takes 10 evaluated ones, not 3"):
        tailbound.forecast_deployment(rows, queries=(100,), progress=None)


def test_ids_reach_the_terminal_escaped(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(TABLE.replace("q59,", "\x1b[31mred,"))
    done = CliRunner().invoke(app, ["forecast", str(path)])
    assert done.exit_code == 0
    assert "\x1b[31m" not in done.stdout


WRONG: dict[str, tuple[Callable[[str], str], dict[str, Any], str]] = {
    "no rows": (lambda t: t.splitlines()[0] + "\n", {}, "has no rows"),
    "no column": (lambda t: t.replace("high", "upper_end"), {}, "has no column high"),
    "above 1": (lambda t: t.replace("0.05,0.025", "1.05,0.025"), {}, r"probability in \[0, 1\]"),
    "nan": (lambda t: t.replace("0.05,0.025", "nan,0.025"), {}, "p must be a number, not 'nan'"),
    "empty": (lambda t: t.replace("0.05,0.025", ",0.025"), {}, "has no 'p': give a number"),
    "outside": (lambda t: t.replace("0.05,0.025", "0.01,0.025"), {}, "outside of its interval"),
    "same id": (lambda t: t.replace("q1,", "q0,"), {}, "repeats the id 'q0'"),
    "negative": (lambda t: t.replace(",g2,4", ",g2,-4"), {}, "weight must not be negative"),
    "all 0": (lambda t: re.sub(r",\d+$", ",0", t, flags=re.M), {}, "all weights .* are 0"),
    "unresolved": (
        lambda t: "p,low,high\n" + "0,0,.01\n" * 20,
        {},
        "not one of the 20 estimates in .* is resolved",
    ),
    "no weights": (lambda t: t, {"weights": "nowhere"}, "neither a file nor a column"),
    "no draws": (lambda t: t, {"draws": (0,)}, "--draws takes whole numbers from 1"),
    "negative draws": (lambda t: t, {"draws": (-5,)}, "--draws takes whole numbers from 1"),
    "no queries": (lambda t: t, {"queries": (0,)}, "--queries takes whole numbers from 1"),
    "far": (lambda t: t, {"queries": (60_001,)}, "over 1,000 times the 60 evaluated"),
    "threshold": (lambda t: t, {"threshold": 1.5}, "--threshold must lie strictly"),
    "confidence": (lambda t: t, {"confidence": 0.2}, "--confidence must lie strictly"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    change, options, part = WRONG[name]
    path = tmp_path / "table.csv"
    path.write_text(change(TABLE))
    with pytest.raises(UsageError, match=part) as found:
        tailbound.forecast_deployment(path, progress=None, **options)
    assert found.value.exit_code == 2
    assert "\n" not in str(found.value)


def test_places_that_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run folder or table"):
        tailbound.forecast_deployment(tmp_path / "nowhere.csv", progress=None)
    with pytest.raises(UsageError, match="not a run folder"):
        tailbound.forecast_deployment(tmp_path, progress=None)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("id,weight\nq0,1\n", "no weight for 59 of 60 queries, such as 'q1'"),
        ("id,weight\nother,1\n", "id 'other' is not in"),
        ("name,weight\nq0,1\n", "needs the columns weight and id"),
        ("group,weight\ng0,1\ng0,2\n", "gives group 'g0' a second weight"),
        ("group,weight\ng0,0\ng1,0\ng2,0\n", "are 0"),
        ("group,weight\ng0,x\n", "weight must be a number, not 'x'"),
    ],
)
def test_wrong_weights_are_named(text: str, part: str, table: Path, tmp_path: Path) -> None:
    path = tmp_path / "mix.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=part):
        tailbound.forecast_deployment(table, weights=str(path), progress=None)


def test_far_extrapolation_is_asked_for(table: Path) -> None:
    found = tailbound.forecast_deployment(table, queries=(60_001,), far=True, progress=None)
    assert any("not tested by anything" in line for line in found.warnings)
