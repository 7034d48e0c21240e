"""Run folders that are used again: what may be resumed, what not, and what is then out of date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Command = Callable[..., tuple[int, str, str]]


def write(path: Path, n: int, *, word: str = "give me", p_hat: bool = True) -> Path:
    rows = [
        {"id": f"q{i}", "prompt": f"{word} the steps to fix a lamp {i}"}
        | ({"p_hat": 0.01 + 0.001 * i} if p_hat else {})
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SHORT = ("--budget", "4", "--out", "x")
BOUND = ("--budget", 4, "--train-draws", 5, "--test-draws", 5, "--json")


@pytest.mark.parametrize("command", ["bound", "risk"])
def test_an_id_never_stands_for_two_prompts(tmp_path, cli, command):
    options = BOUND if command == "bound" else ("--proposal", "none", "--draws", 20, "--json")
    first = write(tmp_path / "a.jsonl", 60)
    other = write(tmp_path / "b.jsonl", 60, word="name")
    assert cli(command, first, *options, "--out", tmp_path / "run")[0] == 0
    code, out, err = cli(command, other, *options, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "holds draws of another prompt with the id 'q0'" in err
    assert cli(command, first, *options, "--out", tmp_path / "run")[0] == 0
    # more prompts may come, and fewer
    more = write(tmp_path / "c.jsonl", 70)
    assert cli(command, more, *options, "--out", tmp_path / "run")[0] == 0
    assert cli(command, first, *options, "--out", tmp_path / "run")[0] == 0
    code, _, err = cli(command, other, *options, "--out", tmp_path / "run")
    assert code == 2


def test_a_bound_is_never_used_with_another_predictor(tmp_path, cli):
    """Fitted, then the user's own: `predict` uses what the bound was calibrated with."""
    plain = write(tmp_path / "plain.jsonl", 80, p_hat=False)
    own = write(tmp_path / "own.jsonl", 80)
    options = ("--out", tmp_path / "run", *BOUND)
    assert cli("bound", plain, *options, "--features", "tfidf")[0] == 0
    code, out, _ = cli("predict", tmp_path / "run", own, "--limit", 1)
    assert json.loads(out)["p_hat"] != pytest.approx(0.01)
    assert cli("bound", own, *options)[0] == 0
    code, out, _ = cli("predict", tmp_path / "run", own, "--limit", 1)
    assert json.loads(out)["p_hat"] == pytest.approx(0.01)
    code, _, err = cli("predict", tmp_path / "run", plain)
    assert code == 2
    assert "needs a column p_hat" in err


def test_a_bound_that_is_on_its_way_takes_the_old_one_s_place(tmp_path, cli, monkeypatch):
    from tailbound.errors import TargetError
    from tailbound.workflows.bound import groups

    own = write(tmp_path / "own.jsonl", 80)
    options = ("--out", tmp_path / "run", *BOUND)
    assert cli("bound", own, *options)[0] == 0
    before = (tmp_path / "run" / "bound.json").read_bytes()

    def fails(*_: object, **__: object) -> None:
        raise TargetError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(groups, "calibrate_with_record", fails)
        assert cli("bound", own, *options)[0] == 1  # the same again: nothing is out of date
        assert (tmp_path / "run" / "bound.json").read_bytes() == before
        assert cli("bound", own, *options, "--alpha", 0.3)[0] == 1
    code, _, err = cli("predict", tmp_path / "run", own)
    assert code == 2
    assert "holds no finished bound" in err
    assert cli("bound", own, *options)[0] == 0
    assert (tmp_path / "run" / "bound.json").read_bytes() == before


def test_predictions_of_one_s_own_need_no_training_part(tmp_path, cli):
    own = write(tmp_path / "own.jsonl", 80)
    options = (*BOUND, "--split", "0,0.8,0.2")
    code, out, _ = cli("bound", own, *options, "--out", tmp_path / "run")
    assert code == 0
    assert json.loads(out)["bound"]["n_calibration"] > 50
    code, _, err = cli("bound", own, *options, "--out", tmp_path / "pac", "--guarantee", "pac")
    assert code == 0, err  # some prompts are set aside to plan with


def test_a_hard_limit_on_draws(tmp_path, cli):
    """Predictions far too high: prompts take more draws than planned, but for the limit."""
    rows = [{"prompt": f"say hello {i}", "p_hat": 0.5} for i in range(80)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spent = {}
    for limit in (None, 1.5):
        given = () if limit is None else ("--max-draws", limit)
        run = tmp_path / f"run{limit}"
        code, out, err = cli("bound", path, *BOUND, *given, "--alpha", 0.3, "--out", run)
        assert code in (0, 3), err
        bound = json.loads(out)["bound"]
        spent[limit] = bound["spent"] / bound["n_calibration"]
        assert yaml.safe_load((run / "run.yaml").read_text())["options"]["max_draws"] == limit
    assert spent[1.5] <= 1.5 < spent[None]


def test_weight_and_level_are_options(tmp_path, cli):
    """The published design for real data follows every second prompt at least."""
    prompts, held = write(tmp_path / "p.jsonl", 60), {}
    for weight in (2, 4):
        options = ("--design", "trimmed", "--max-weight", weight, "--max-level", 0.1)
        run = tmp_path / f"run{weight}"
        code, out, err = cli("bound", prompts, *BOUND, *options, "--out", run)
        assert code == 0, err
        held[weight] = json.loads(out)["bound"]
        assert held[weight]["cap"] == 4 * weight
        assert held[weight]["weight_bound"] <= weight
        assert held[weight]["level"] <= 0.1
        made = yaml.safe_load((run / "run.yaml").read_text())["options"]
        assert (made["max_weight"], made["max_level"]) == (weight, 0.1)
    assert held[2]["n_selected"] >= held[4]["n_selected"]


def test_too_few_prompts_for_alpha_are_refused_before_anything_is_drawn(tmp_path, cli):
    prompts = write(tmp_path / "p.jsonl", 60)
    wanted = ("bound", prompts, *BOUND, "--alpha", 0.01, "--out", tmp_path / "run")
    for more in ((), ("--guarantee", "pac"), ("--guarantee", "plug-in")):
        code, out, err = cli(*wanted, *more)
        assert (code, out) == (3, "")
        (line,) = err.splitlines()
        assert "to state any bound, and there are" in line
        assert line.endswith("or raise --alpha")
        assert not (tmp_path / "run").exists()


def test_mistakes_on_the_command_line_are_one_line(cli):
    for arguments, message in (
        (["bound", "p.jsonl"], "Missing option '--out'"),
        (["bound", "p.jsonl", "--budget", "many", "--out", "x"], "--budget"),
        (["bound", "--colour", "red"], "No such option"),
        (["bound", "p.jsonl", *SHORT, "--max-weight", "0.5"], "--max-weight must be at least 1"),
        (["bound", "p.jsonl", *SHORT, "--max-weight", "inf"], "--max-weight must be at least 1"),
        (["bound", "p.jsonl", *SHORT, "--max-level", "1.5"], "--max-level must lie strictly"),
        (
            ["bound", "p.jsonl", *SHORT, "--max-weight", "9", "--design", "basic"],
            "the basic design takes no --max-weight",
        ),
        (["dance"], "No such command 'dance'"),
    ):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("tailbound: error: ")
        assert message in line
    code, out, _ = cli()
    assert "Commands" in out
    assert cli("--version")[0] == 0


def test_a_judge_that_never_says_anything_is_named_with_its_reason(tmp_path, cli, monkeypatch):
    (tmp_path / "mute.py").write_text(
        "def mute(prompt, response): return None\ndef wild(prompt, response): return 2.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = write(tmp_path / "plain.jsonl", 60, p_hat=False)
    code, _, err = cli(
        *("bound", plain, *BOUND, "--judge", "python:mute:mute", "--out", tmp_path / "mute")
    )
    assert code == 3
    assert "no verdict on any of" in err
    assert "(the judge gave no score)" in err
    code, _, err = cli(
        *("bound", plain, *BOUND, "--judge", "python:mute:wild", "--out", tmp_path / "wild")
    )
    assert code == 1
    assert "failed 50 times in a row (the score is 2.0, not a number in [0, 1])" in err


def test_another_judge_on_the_draws_of_a_run(tmp_path, cli):
    """Risks under both judges from the same draws; of a bound, how far the judges agree."""
    prompts = write(tmp_path / "p.jsonl", 60)
    risk = ("risk", prompts, "--limit", 3, "--draws", 60, "--json", "--out", tmp_path / "risk")
    code, out, err = cli(*risk)
    assert code == 0, err
    first = json.loads(out)
    held = sorted(path.name for path in (tmp_path / "risk" / "draws").iterdir())
    code, _, err = cli(*risk, "--judge", "regex:sure")
    assert code == 2
    assert "--rejudge, to judge the same draws again" in err
    code, out, err = cli(*risk, "--judge", "regex:sure", "--rejudge", "--dry-run")
    assert (code, json.loads(out)) == (0, {"to_judge": 180, "judged_before": 0})
    wider = [5 if part == 3 else part for part in risk]
    code, _, err = cli(*wider, "--judge", "regex:sure", "--rejudge")
    assert code == 2
    assert "2 prompts have no draws in" in err
    assert not (tmp_path / "risk" / "verdicts").exists()
    code, out, err = cli(*risk, "--judge", "regex:sure", "--rejudge")
    assert code == 0, err
    second = json.loads(out)
    assert [row["draws"] for row in second["prompts"]] == [60] * 3
    assert second["set"]["mean"] > 0.3 > first["set"]["mean"]
    assert second["agreement"]["only_new"] > 60
    assert sorted(path.name for path in (tmp_path / "risk" / "draws").iterdir()) == held
    assert json.loads(cli(*risk)[1])["prompts"] == first["prompts"]
    bound = ("bound", prompts, *BOUND, "--out", tmp_path / "bound")
    assert cli(*bound)[0] == 0
    code, out, err = cli(*bound, "--judge", "regex:sure", "--rejudge")
    assert code == 0, err
    assert json.loads(out)["agreement"]["only_new"] > 20
    code, _, err = cli(*bound[:-1], tmp_path / "nowhere", "--judge", "regex:sure", "--rejudge")
    assert code == 2


def test_square_brackets_are_shown_as_they_are(tmp_path, cli):
    """Rich would read [/INST] as markup, and fail after everything was drawn."""
    path = tmp_path / "p.jsonl"
    rows = [{"prompt": f"hi [/INST] {i}", "p_hat": 0.1} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = ("--judge", "regex:[/x][a-z]y")
    draw = ("--proposal", "none", "--draws", 5, "--limit", 2)
    code, out, err = cli("risk", path, *draw, *judge, "--out", tmp_path / "risk")
    assert code == 0, err
    assert "hi [/INST]" in out
    assert "regex:[/x][a-z]y" in out.replace("\n", "").replace("│", "").replace(" ", "")
    code, out, err = cli("bound", path, *BOUND[:-1], *judge, "--out", tmp_path / "bound")
    assert code in (0, 3), err
    assert "[marginal]" in out
