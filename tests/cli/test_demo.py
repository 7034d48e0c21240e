"""The first thing that anybody runs: the demo, its quick form and its prompt file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Launcher


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A process that begins anew, as the first one that anybody starts."""
    command = [sys.executable, "-m", "tailbound", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quick demo has run; what it printed is in out.txt and err.txt."""
    folder = tmp_path_factory.mktemp("demo")
    done = run("demo", "--quick", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "out.txt").write_text(done.stdout)
    (folder / "err.txt").write_text(done.stderr)
    return folder


def test_the_quick_demo_answers_both_questions_beside_the_truth(toured: Path) -> None:
    out, err = (toured / "out.txt").read_text(), (toured / "err.txt").read_text()
    # how likely comes first: it is there within seconds
    assert out.index("How likely") < out.index("Lower bound on the time to unsafe sampling")
    assert "Exact coverage over all test prompts" in out
    *tables, following = out.splitlines()
    assert max(len(line) for line in tables) <= 80
    assert following.startswith("next: tailbound predict ")  # unbroken: it can be pasted
    assert following.endswith("new-prompts.jsonl")
    assert tables[-1] == "report: tailbound-demo-quick/report.html"
    page = (toured / "tailbound-demo-quick" / "report.html").read_text(encoding="utf-8")
    assert "How likely?" in page
    assert "When?" in page
    steps = [line for line in err.splitlines() if line.startswith("[")]
    assert len(steps) == 3
    assert "loading" in steps[0]
    assert "Warning" not in err


def test_the_quick_demo_is_right_about_what_is_known_exactly(
    toured: Path, launcher: Launcher
) -> None:
    done = launcher.run("demo", "--quick", "--json", folder=toured)
    document = json.loads(done.stdout)
    # one calibration of about 230 prompts: true coverage has a standard deviation of about .02
    assert 0.8 <= document["true_coverage"] <= 0.99
    for row in document["risks"]:
        assert row["certified_lower"] <= row["exact_risk"] * 1.0001
        assert row["risk"] == pytest.approx(row["exact_risk"], rel=0.5)
    # resumed: nothing was drawn again
    assert all("/s" not in line or " 0 draws" in line for line in done.stderr.splitlines())


def test_quick_and_full_have_folders_of_their_own(toured: Path) -> None:
    assert (toured / "tailbound-demo-quick" / "when" / "bound.json").exists()
    assert not (toured / "tailbound-demo").exists()


def test_the_prompt_file_and_the_commands_that_it_names_work(
    tmp_path: Path, launcher: Launcher
) -> None:
    done = launcher.run("demo", "--prompts", "demo.jsonl", folder=tmp_path)
    assert done.returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert len(rows) == 1100
    assert set(rows[0]) == {"id", "prompt"}
    named = [
        " ".join(text.split())
        for text in done.stdout.split("next: ")
        if text.startswith("tailbound")
    ]
    assert [command.split()[1] for command in named] == ["bound", "risk"]
    for command in named:
        done = launcher.run(*command.split()[1:], "--dry-run", folder=tmp_path)
        assert done.returncode == 0, done.stderr


def test_an_existing_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("precious\n")
    done = run("demo", "--prompts", "mine.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.jsonl exists and holds something else" in done.stderr
    assert (tmp_path / "mine.jsonl").read_text() == "precious\n"
