"""`--config` and `--save-config`: the options of a command in a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tailbound.demo.files import default_prompts

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "p.jsonl"
    lines = [json.dumps({"id": p.id, "prompt": p.text}) for p in default_prompts(60)]
    path.write_text("\n".join(lines))
    return path


def options(prompts: Path) -> dict[str, object]:
    return {
        "prompts": str(prompts),
        "out": str(prompts.parent / "run"),
        "budget": 5,
        "train-draws": 20,
        "test_draws": 20,
        "max-new-tokens": 16,
        "split": [0.3, 0.4, 0.3],
    }


def test_options_from_a_file_and_the_command_line_wins(cli: Cli, prompts: Path) -> None:
    file = prompts.parent / "c.yaml"
    file.write_text(yaml.safe_dump(options(prompts)))
    saved = prompts.parent / "saved.yaml"
    code, out, err = cli(
        "bound", "--config", file, "--train-draws", 25, "--save-config", saved, "--json"
    )
    assert code == 0, err
    made = json.loads(out)["made_with"]
    assert (made["train_draws"], made["test_draws"]) == (25, 20)
    assert made["shares"] == [0.3, 0.4, 0.3]
    # what was saved, and run.yaml, ask for the same: nothing is drawn
    draws = sorted((prompts.parent / "run" / "draws").iterdir())
    for asks in (saved, prompts.parent / "run" / "run.yaml"):
        code, again, err = cli(
            "bound", prompts, "--config", asks, "--out", prompts.parent / "run", "--json"
        )
        assert code == 0, err
        assert json.loads(again)["made_with"] == made
        assert sorted((prompts.parent / "run" / "draws").iterdir()) == draws


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bugdet: 5", "has no option 'bugdet'; did you mean budget?"),
        ("- 5", "must hold options"),
        ("a: [", "is not readable YAML"),
        ("budget: many", "valid number"),
        ("guarantee: sure", "must be one of plug-in, marginal, pac"),
        ("config: other.yaml", "has no option 'config'"),
    ],
)
def test_a_wrong_file_is_one_line(cli: Cli, prompts: Path, text: str, message: str) -> None:
    file = prompts.parent / "c.yaml"
    file.write_text(text)
    budget = () if "budget" in text else ("--budget", 5)
    code, out, err = cli(
        "bound", prompts, "--config", file, "--out", prompts.parent / "run", *budget
    )
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (prompts.parent / "run").exists()


def test_a_file_that_is_missing_and_one_that_is_taken(cli: Cli, prompts: Path) -> None:
    run = ("bound", prompts, "--budget", 5, "--out", prompts.parent / "run")
    code, _, err = cli(*run, "--config", prompts.parent / "none.yaml")
    assert (code, "cannot be read" in err) == (2, True)
    code, _, err = cli(*run, "--save-config", prompts)
    assert (code, "exists" in err) == (2, True)
