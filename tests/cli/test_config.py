"""`--config` and `--save-config`: the options of a command in a file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer
import yaml
from typer.main import get_command
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.cli.declared import declares
from tailbound.core.contract import SamplingOptions
from tailbound.core.options import Option, options_of
from tailbound.demo.files import default_prompts
from tailbound.runs.manifest import read_manifest
from tailbound.targets.options import EndpointOptions, EngineOptions
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions
from tailbound.workflows.bound.settings import BoundSettings
from tailbound.workflows.compare.settings import CompareOptions
from tailbound.workflows.export.settings import ExportOptions
from tailbound.workflows.forecast.settings import ForecastOptions
from tailbound.workflows.import_.settings import ImportOptions
from tailbound.workflows.ledger.settings import LedgerOptions
from tailbound.workflows.monitor.settings import MonitorOptions
from tailbound.workflows.paraphrase.settings import SAMPLING as REWORDING_SAMPLING
from tailbound.workflows.paraphrase.settings import ParaphraseOptions
from tailbound.workflows.rejudge.settings import RejudgeOptions
from tailbound.workflows.report.settings import ReportOptions
from tailbound.workflows.reproduce.realtoxicity.settings import (
    BOUND_OPTIONS,
    CompletionOptions,
    CompletionStudy,
)
from tailbound.workflows.reproduce.settings import RISK_OPTIONS, ErrorStudy, WeightedStudy
from tailbound.workflows.reproduce.synthetic.settings import SyntheticStudy
from tailbound.workflows.risk.settings import ProposalOptions, RiskSettings
from tailbound.workflows.sensitivity.settings import SensitivityOptions
from tailbound.workflows.settings import PromptOptions, RecordOptions
from tailbound.workflows.summarize.settings import SummaryOptions
from tailbound.workflows.view.settings import ViewOptions

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


def test_run_yaml_asks_for_the_same_prompts(cli: Cli, prompts: Path) -> None:
    """Of the first three alone: without `limit` on record, a repeat would draw all."""
    run = prompts.parent / "run"
    asked = ("--limit", 3, "--field", "prompt", "--draws", 5, "--proposal", "none")
    code, _, err = cli("risk", prompts, *asked, "--max-new-tokens", 4, "--out", run)
    assert code == 0, err
    held = read_manifest(run)["options"]
    assert (held["prompts"], held["limit"], held["field"]) == (str(prompts), 3, "prompt")
    draws = sorted((run / "draws").iterdir())
    code, again, err = cli("risk", "--config", run / "run.yaml", "--out", run, "--json")
    assert code == 0, err
    assert len(json.loads(again)["prompts"]) == 3
    assert sorted((run / "draws").iterdir()) == draws


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bugdet: 5", "has no option 'bugdet'; did you mean budget?"),
        ("- 5", "must hold options"),
        ("a: [", "is not readable YAML"),
        ("budget: many", "valid number"),
        ("guarantee: sure", "must be one of plug-in, marginal, pac"),
        ("config: other.yaml", "has no option 'config'"),
        ("budget: true", "budget takes a value, not True"),
        ("allow_missing: 'yes'", "allow_missing takes true or false, not 'yes'"),
        ("no-text: 1", "no-text takes true or false, not 1"),
        ("seed: {a: 1}", "takes a text, a number or a list of these, not dict"),
        ("stop: [[a, b]]", "takes a text, a number or a list of these, not list"),
        ("system: !!binary aGVsbG8=", "takes a text, a number or a list of these, not bytes"),
        ("test_draws: 5\ntest-draws: 6", "gives test_draws twice"),
        ("system: &a [x, x]\nstop: &b [*a, *a]", "takes a text, a number"),
        ("seed: !!python/object/apply:os.getpid []", "is not readable YAML"),
        ("seed: " + "[" * 3000, "is not readable YAML"),
        ("alpha: .nan", "--alpha must be a list of numbers, not (nan,)"),
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


def test_a_password_in_a_url_is_not_saved(cli: Cli, prompts: Path) -> None:
    saved = prompts.parent / "saved.yaml"
    code, _, err = cli(
        *("bound", prompts, "--budget", 5, "--out", prompts.parent / "run"),
        *("--target", "openai:m", "--base-url", "http://me:secret@127.0.0.1:1/v1"),
        *("--save-config", saved),
    )
    assert code == 2
    assert "secret" not in err
    assert not saved.exists()


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        (
            "bound",
            (
                *(BoundSettings, PromptOptions, RecordOptions),
                *(SamplingOptions, EngineOptions, EndpointOptions),
            ),
        ),
        (
            "risk",
            (
                *(RiskSettings, ProposalOptions, PromptOptions),
                *(SamplingOptions, EngineOptions, EndpointOptions),
            ),
        ),
        ("predict", (PromptOptions,)),
        ("rejudge", (RejudgeOptions,)),
        ("summarize", (SummaryOptions,)),
        ("monitor", (MonitorOptions,)),
        ("audit-judge", (AuditJudgeOptions,)),
        ("compare", (CompareOptions,)),
        (
            "sensitivity",
            (
                *(SensitivityOptions, ParaphraseOptions, PromptOptions, REWORDING_SAMPLING),
                *(EngineOptions, EndpointOptions),
            ),
        ),
        ("forecast", (ForecastOptions,)),
        ("report", (ReportOptions,)),
        ("view", (ViewOptions,)),
        ("import", (ImportOptions, RecordOptions)),
        ("export", (ExportOptions,)),
        ("ledger", (LedgerOptions,)),
        ("mc-vs-is", (ErrorStudy, ProposalOptions, RISK_OPTIONS, PromptOptions)),
        ("persona", (WeightedStudy, ProposalOptions, RISK_OPTIONS, PromptOptions)),
        ("synthetic", (SyntheticStudy,)),
        ("realtoxicity", (CompletionStudy, BOUND_OPTIONS, PromptOptions, CompletionOptions)),
    ],
)
def test_every_option_is_read_back_as_it_was_saved(
    tmp_path: Path, command: str, groups: tuple[type, ...]
) -> None:
    """Other values than the defaults, of every declared option, through a file and back."""
    heard: list[dict[str, Any]] = []
    taking = typer.Typer()

    @taking.command()
    @declares(*groups)
    def take(**options: Any) -> None:
        heard.append(options)

    @taking.command()
    def other() -> None:
        """Two commands, so that the first has a name."""

    given: list[str] = []
    for one in (one for group in groups for one in options_of(group)):
        given += other_value(one)
    runner = CliRunner()
    saved = tmp_path / "saved.yaml"
    first = runner.invoke(taking, ["take", *given, "--save-config", str(saved)])
    assert first.exit_code == 0, first.output
    again = runner.invoke(taking, ["take", "--config", str(saved)])
    assert again.exit_code == 0, again.output
    assert heard[0] == heard[1]
    defaults = {one.name: one.default for group in groups for one in options_of(group)}
    same = [name for name, value in heard[0].items() if value == defaults[name]]
    assert same == []


@pytest.mark.parametrize(
    ("command", "function"),
    [
        ("bound", tailbound.bound),
        ("risk", tailbound.risk),
        ("predict", tailbound.predict),
        ("rejudge", tailbound.rejudge),
        ("summarize", tailbound.summarize),
        ("monitor", tailbound.monitor),
        ("audit-judge", tailbound.audit_judge),
        ("compare", tailbound.compare),
        ("sensitivity", (tailbound.sensitivity, tailbound.paraphrase)),
        ("forecast", tailbound.forecast_deployment),
        ("report", tailbound.report),
        ("view", tailbound.view),
        ("import", tailbound.import_draws),
        ("export", tailbound.export),
        ("ledger", tailbound.ledger),
        ("reproduce mc-vs-is", tailbound.reproduce_mc_vs_is),
        ("reproduce strongreject", tailbound.reproduce_strongreject),
        ("reproduce persona", tailbound.reproduce_persona),
        ("reproduce synthetic", tailbound.reproduce_synthetic),
        ("reproduce realtoxicity", tailbound.reproduce_realtoxicity),
    ],
)
def test_python_and_the_command_line_declare_the_same(
    command: str, function: Callable[..., Any] | tuple[Callable[..., Any], ...]
) -> None:
    """Every option of the command is a keyword of the function, with the same default.

    A command that does two things has two functions.
    """
    found: Any = get_command(app)
    for name in command.split():
        found = found.commands[name]
    params = found.params
    defaults = {one.name: one.default for one in params}
    known = dict(defaults)
    for each in function if isinstance(function, tuple) else (function,):
        groups = each.__tailbound_groups__  # type: ignore[attr-defined]
        keywords = inspect.signature(each).parameters
        for one in (one for group in groups for one in options_of(group)):
            assert known[one.name] == _typed(one)
            defaults.pop(one.name, None)
            assert keywords[one.name].annotation == one.type
            due = inspect.Parameter.empty if one.default is MISSING else one.default
            assert keywords[one.name].default == due
    # what is left is no setting: where the run is, and what becomes of the result
    own = {"as_json", "dry_run", "config", "save_config", "folder", "run", "source", "out"}
    own |= {"from_table", "a", "b", "folders", "paraphrase", "action"}
    assert set(defaults) <= own | {"prompts", "target", "judge", "rejudge", "outcomes"}


def _typed(one: Option) -> Any:
    """The default of an option as it would be typed."""
    if one.default is MISSING or one.default == ():
        return None
    if isinstance(one.default, tuple):
        return ",".join(f"{number:g}" for number in one.default)
    return one.default


def other_value(one: Option) -> list[str]:
    """A value of the option that is not its default, as it is typed."""
    if one.type is bool:
        return [f"--no-{one.flag[2:]}" if one.default else one.flag]
    if one.choices:
        return [one.flag, next(name for name in one.choices if name != one.default)]
    if get_origin(one.type) is tuple:
        members = get_args(one.type)
        if members[0] is str:
            return [one.flag, "a, b: c", one.flag, "#d"]
        return [one.flag, "2,3" if members[0] is int else "0.2,0.5,0.3"]
    kinds = [one.type, *get_args(one.type)]
    return [one.flag, "7" if int in kinds else "0.75" if float in kinds else "yes: #no"]


def test_the_other_commands_take_one_too(cli: Cli, tmp_path: Path) -> None:
    rows = [{"id": "q", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(10)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    file = tmp_path / "c.yaml"
    run = str(tmp_path / "run")
    file.write_text(yaml.safe_dump({"source": str(tmp_path / "t.jsonl"), "out": run}))
    code, out, err = cli("import", "--config", file, "--json")
    assert code == 0, err
    assert json.loads(out)["draws"] == 10
    file.write_text(yaml.safe_dump({"folder": run, "judge": "regex:7", "k": [1, 5]}))
    code, _, err = cli("rejudge", "--config", file, "--json")
    assert code == 2
    assert "has no option 'k'" in err
    file.write_text(yaml.safe_dump({"folder": run, "judge": "regex:7"}))
    code, out, err = cli("rejudge", "--config", file, "--json")
    assert code == 0, err
    assert json.loads(out)["agreement"]["draws"] == 10
    file.write_text(yaml.safe_dump({"folder": run, "k": [1, 5]}))
    code, out, err = cli("summarize", "--config", file, "--json")
    assert code == 0, err
    assert [whole["k"] for whole in json.loads(out)["streams"][0]["set"]] == [1, 5]
