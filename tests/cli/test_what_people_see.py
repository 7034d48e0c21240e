"""Progress, interruptions, help and judges that fail, as a person meets them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tailbound.cli.help import EXAMPLES
from tailbound.core.steps import Account, accounted, charged_to, count, step
from tailbound.demo.files import default_prompts
from tailbound.terminal.progress import LiveProgress


def write_prompts(path: Path, n: int) -> Path:
    lines = [json.dumps({"id": p.id, "prompt": p.text}) + "\n" for p in default_prompts(n)]
    path.write_text("".join(lines))
    return path


def test_one_plain_line_an_interval_where_there_is_no_terminal(capsys):
    with LiveProgress(every=0.05), step("scoring draws", total=10, unit="prompts") as now:
        now.advance(4)
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 8
    assert set(lines) == {"scoring draws, 4 of 10 prompts, 0 s so far"}


def test_a_step_that_took_a_while_leaves_a_line_and_a_failed_one_does_not(capsys, monkeypatch):
    monkeypatch.setattr("tailbound.terminal.progress.NOTABLE", 0.0)
    with LiveProgress():
        with step("loading x"):
            pass
        with pytest.raises(ValueError, match="no"), step("loading y"):
            raise ValueError("no")
    assert capsys.readouterr().err.splitlines() == ["loading x, 0 s"]


def test_the_innermost_stage_is_charged():
    account = Account()
    with accounted(account), charged_to("outer"):
        count(draws=1, tokens=5, positions=7)
        with step("inner", stage="inner"):
            count(positions=11)
        count(positions=2)
    stages = account.stages()
    assert (stages["outer"].draws, stages["outer"].tokens) == (1, 5)
    assert stages["outer"].positions == 9
    assert stages["inner"].positions == 11
    assert stages["outer"].seconds >= 0


GROUPS = {
    **dict.fromkeys(("refusal", "persona"), ("steer",)),
    **dict.fromkeys(("mc-vs-is", "strongreject", "synthetic", "realtoxicity"), ("reproduce",)),
}
"""Of commands that are one of several, where their name alone says not which."""


def test_every_command_shows_an_example_and_takes_h(cli):
    for name in EXAMPLES:
        words = [*GROUPS.get(name, ()), *name.split()]
        code, out, _ = cli(*words, "-h")
        assert code == 0
        assert "Example:" in out
        assert "<bool>" not in out
        assert f"tailbound {' '.join(words)}" in " ".join(out.split())


@pytest.mark.parametrize("dry", [True, False])
def test_what_an_interrupted_command_says_is_what_it_did(cli, tmp_path, monkeypatch, dry):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    work = "preview_bound" if dry else "run_bound"
    monkeypatch.setattr(f"tailbound.workflows.bound.command.{work}", interrupted)
    prompts, out = write_prompts(tmp_path / "p.jsonl", 120), tmp_path / "run"
    code, _, err = cli("bound", prompts, "--budget", 5, "--out", out, *["--dry-run"] * dry)
    assert code == 130
    kept = f"what is finished is kept in {out}: repeat the command to resume"
    said = "nothing was kept" if dry else kept
    assert err.splitlines()[-1] == f"tailbound: interrupted; {said}"
    assert out.exists() != dry


def test_risk_stops_where_the_judge_fails_on_everything(cli, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_judge.py").write_text(
        "def fails(response):\n    raise ValueError('the judge is out of order')\n"
    )
    prompts = write_prompts(tmp_path / "p.jsonl", 2)
    out = tmp_path / "run"
    code, shown, err = cli(
        *("risk", prompts, "--judge", "python:broken_judge:fails", "--proposal", "none"),
        *("--draws", 10, "--out", out),
    )
    assert code == 3
    assert shown == ""
    assert "gave no verdict on any of 20 risk draws" in err
    assert "the judge is out of order" in err
    assert not (out / "risk.json").exists()
    assert not (out / "review.jsonl").exists()
    # what the message says to do: the draws are kept, and another judge judges them
    assert "repeat the command with --rejudge" in err
    code, shown, err = cli(
        *("risk", prompts, "--judge", "regex:.", "--proposal", "none", "--draws", 10),
        *("--out", out, "--rejudge", "--json"),
    )
    assert code == 0, err
    assert [one["draws"] for one in json.loads(shown)["prompts"]] == [10, 10]


def test_nothing_to_review_is_not_recommended_and_all_work_is_counted(cli, tmp_path):
    prompts = write_prompts(tmp_path / "p.jsonl", 2)
    out = tmp_path / "run"
    code, shown, _ = cli(
        *("risk", prompts, "--judge", "regex:never-said", "--draws", 10, "--out", out)
    )
    assert code == 0
    assert "review.jsonl" not in shown
    document = json.loads((out / "spend.json").read_text())
    stages = document["stages"]
    # scoring of safe draws is a random part of them
    assert {"direction", "self-checks", "risk"} <= set(stages)
    assert stages["risk"]["draws"] == document["streams"]["risk"]["draws"] == 20
    assert stages["risk"]["tokens"] == document["streams"]["risk"]["tokens"]
    # every token of a draw but the last was read, and the last token of its prompt
    assert stages["risk"]["positions"] >= stages["risk"]["tokens"]
    assert stages["self-checks"]["draws"] > 0
    assert stages["direction"]["positions"] > 0
    before = stages["self-checks"]["draws"]
    cli("risk", prompts, "--judge", "regex:never-said", "--draws", 10, "--out", out)
    again = json.loads((out / "spend.json").read_text())["stages"]
    assert again["self-checks"]["draws"] == before  # they are on record
    (out / "checks.json").unlink()
    cli("risk", prompts, "--judge", "regex:never-said", "--draws", 10, "--out", out)
    again = json.loads((out / "spend.json").read_text())["stages"]
    assert again["self-checks"]["draws"] == 2 * before
    assert again["risk"]["draws"] == 20
