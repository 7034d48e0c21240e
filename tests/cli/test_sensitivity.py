"""`tailbound sensitivity`: groups of wordings from tables and runs, and wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.workflows.sensitivity import SensitivityResult


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = ["id,p,low,high,group"]
    for query in range(30):
        center = rng.normal(-4, 1)
        for wording in range(4):
            p = min(10 ** (center + rng.normal(0, 0.3)), 0.4)
            rows.append(f"q{query}w{wording},{p},{p / 1.5},{min(1.5 * p, 1)},[q]{query}")
    rows.append("lonely,0.1,0.05,0.2,")
    rows.append("rare,0,0,0.001,[q]0")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_table_is_shown_within_80_columns(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["sensitivity", str(table)])
    assert done.exit_code == 0, done.output
    assert max(cell_len(line) for line in done.stdout.splitlines()) <= 80
    for part in ("121 wordings of 30", "1 without a group", "sd within queries", "[q]"):
        assert part in done.stdout
    assert "1 of 121 wordings are not resolved" in " ".join(done.stdout.split())
    named = CliRunner().invoke(app, ["sensitivity", str(table), "--json"])
    document = json.loads(named.stdout)
    result = tailbound.sensitivity(table, progress=None)
    assert SensitivityResult.from_dict(document) == result
    assert result.frame().height == 30
    assert result.groups[0].spread == max(one.spread or 0 for one in result.groups)


def test_a_run_with_groups_of_prompts(tmp_path: Path) -> None:
    prompts = [
        {"prompt": prompt.text, "group": f"g{number % 2}"}
        for number, prompt in enumerate(default_prompts(8))
    ]
    tailbound.risk(prompts, out=tmp_path / "run", draws=200, proposal="none", progress=None)
    found = tailbound.sensitivity(tmp_path / "run", progress=None)
    assert {one.group for one in found.groups} == {"g0", "g1"}
    assert sum(one.wordings for one in found.groups) == 8
    known = {one.prompt.id for one in tailbound.load_run(tmp_path / "run").risk.risks}
    assert {one.worst for one in found.groups if one.worst is not None} <= known


def test_wrong_usage_is_one_line(table: Path, tmp_path: Path) -> None:
    alone = [{"p": 0.1, "low": 0.1, "high": 0.1}, {"p": 0.2, "low": 0.2, "high": 0.2}]
    with pytest.raises(UsageError, match="no two queries of table are wordings of one"):
        tailbound.sensitivity(alone, progress=None)
    with pytest.raises(UsageError, match="--confidence must lie strictly"):
        tailbound.sensitivity(table, confidence=0.2, progress=None)
    with pytest.raises(UsageError, match="--seed must be"):
        tailbound.sensitivity(table, seed=-1, progress=None)
    with pytest.raises(UsageError, match="no run folder or table"):
        tailbound.sensitivity(tmp_path / "nothing", progress=None)
