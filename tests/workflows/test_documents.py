"""Every JSON document of real runs against its schema, and the schemas against the code."""

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tailbound.cli import main
from tailbound.demo.files import default_prompts
from tailbound.demo.tour import prompt_lines
from tailbound.runs import layout
from tailbound.storage.documents import read_json
from tailbound.storage.json_schema import Nullable, schema_of, shape
from tailbound.workflows.documents import FILES, OUTPUTS, command_of, schema_name, schemas, text_of

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def check(document: Any, name: str) -> None:
    """Validate against the schema as it is committed."""
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    found = [f"{error.json_path}: {error.message}" for error in errors(document, schema)]
    assert not found, f"{name}: {found[:3]}"


def errors(document: Any, schema: dict[str, Any]) -> list[Any]:
    return list(Draft202012Validator(schema).iter_errors(document))


def check_folder(folder: Path) -> set[str]:
    """Validate every JSON document of a run folder; the places that were found."""
    found = set()
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        if path.suffix not in (".json", ".yaml", ".jsonl") or path.name == layout.NEW_PROMPTS:
            continue
        if path.name == layout.REVIEW:
            for line in path.read_text(encoding="utf-8").splitlines():
                check(json.loads(line), "review.json")
            continue
        if place.startswith(layout.PLAN):
            place = f"{layout.PLAN}/{layout.round_name(1)}"
        if path.parent.name == layout.RESULTS:
            check(json.loads(path.read_text(encoding="utf-8")), "results.json")
            continue
        if place.startswith((f"{layout.VERDICTS}/", f"{layout.JUDGE_AUDIT}/")) and (
            path.name != layout.SAMPLE
        ):
            name = path.name
            place = name if name in FILES else f"{layout.VERDICTS}/{name}"
        text = path.read_text(encoding="utf-8")
        check(
            yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text), schema_name(place)
        )
        found.add(place)
    return found


def run(*arguments: object) -> Any:
    """The document that a command prints with --json."""
    out, error, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["tailbound", *map(str, arguments), "--json"]
    try:
        with redirect_stdout(out), redirect_stderr(error), suppress(SystemExit):
            main()
    finally:
        sys.argv = before
    assert out.getvalue(), error.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text(prompt_lines(default_prompts(110)))
    return path


def test_the_committed_schemas_are_those_of_the_code() -> None:
    here = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    now = {name: text_of(schema) for name, schema in schemas().items()}
    assert here == now, "run scripts/schemas and commit docs/schemas"


def test_every_schema_is_one_and_admits_no_other_keys() -> None:
    for name, schema in schemas().items():
        Draft202012Validator.check_schema(schema)
        for part in (schema, *schema.get("$defs", {}).values()):
            if "properties" in part:
                assert part["additionalProperties"] is False, name


def test_a_bound_its_plan_and_its_predictions(prompts: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    sizes = ("--budget", 8, "--train-draws", 15, "--test-draws", 15, "--max-new-tokens", 16)
    sizes += ("--alpha", "0.3,0.2")
    common = (prompts, "--target", "demo", "--judge", "demo", *sizes)
    check(run("bound", *common, "--out", tmp_path / "none", "--dry-run"), "output-bound-plan.json")
    check(run("bound", *common, "--out", run_folder), "output-bound.json")
    check(run("predict", run_folder, prompts, "--limit", 5), "output-predict.json")
    check(run("summarize", run_folder), "output-summarize.json")
    places = check_folder(run_folder)
    wanted = ("run.yaml", "ledger.json", "bound.json", "evaluation.json", "features.json")
    assert {*wanted, "spend.json", "summary.json"} == places


def test_a_risk_its_plan_and_another_judge(prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    common = (prompts, "--target", "demo", "--limit", 4, "--draws", 30, "--out")
    mixed = ("--judge", "demo", "--proposal-family", "mix-switch")
    words = tmp_path / "words.txt"
    words.write_text("the\n")
    check(run("risk", *common, tmp_path / "none", "--dry-run"), "output-risk-plan.json")
    check(run("risk", *common, folder, *mixed), "output-risk.json")
    check(
        run("rejudge", folder, "--judge", f"keywords:{words}", "--dry-run"),
        "output-rejudge-plan.json",
    )
    check(run("rejudge", folder, "--judge", f"keywords:{words}"), "output-rejudge.json")
    again = ("--judge", f"keywords:{words}", "--proposal-family", "mix-switch", "--rejudge")
    check(run("risk", *common, folder, *again), "output-risk-rejudge.json")
    places = check_folder(folder)
    wanted = ("run.yaml", "ledger.json", "risk.json", "proposal.json", "choice.json", "spend.json")
    further = ("direction/direction.json", "plan/round-0001.json", "verdicts/judge.json")
    assert {*wanted, *further, "verdicts/agreement.json"} <= places


def test_an_import_and_plain_monte_carlo(prompts: Path, tmp_path: Path) -> None:
    source = tmp_path / "draws.jsonl"
    source.write_text('{"prompt_id": "a", "response": "x", "score": 1.0}\n')
    check(run("import", source, "--out", tmp_path / "run"), "output-import.json")
    check(run("summarize", tmp_path / "run"), "output-summarize.json")
    counts = tmp_path / "counts.jsonl"
    counts.write_text('{"prompt_id": "a", "draws": 100, "unsafe": 90}\n')
    watched = ("monitor", tmp_path / "run", counts, "--reference", 0.1)
    check(run(*watched), "output-monitor.json")
    check(run("forecast", tmp_path / "run"), "output-forecast.json")
    check(run("compare", tmp_path / "run", tmp_path / "run"), "output-compare.json")
    groups = tmp_path / "groups.csv"
    groups.write_text("p,low,high,group\n.1,.1,.1,a\n.2,.2,.2,a\n.3,.3,.3,b\n")
    check(run("sensitivity", groups), "output-sensitivity.json")
    sheet = tmp_path / "sheet.csv"
    audit = ("audit-judge", tmp_path / "run")
    check(run(*audit, "--sheet", sheet), "output-audit-judge-sheet.json")
    check(run(*audit, "--judge", "regex:x", "--no-prompts"), "output-audit-judge.json")
    for action in ("verify", "compact", "stats"):
        check(run("ledger", tmp_path / "run", action), "output-ledger.json")
    check(run("export", tmp_path / "run", "--to", "inspect"), "output-export.json")
    check(run("report", tmp_path / "run", "--out", tmp_path / "page.html"), "output-report.json")
    places = {"run.yaml", "ledger.json", "summary.json", "monitor.json", "forecast.json"}
    places |= {"judge-audit.json", "judge-audit/sample.json", "verdicts/judge.json"}
    assert check_folder(tmp_path / "run") == places
    plain = ("--target", "demo", "--limit", 2, "--draws", 10, "--proposal", "none")
    check(run("risk", prompts, *plain, "--out", tmp_path / "plain"), "output-risk.json")
    assert "risk.json" in check_folder(tmp_path / "plain")


def test_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    asked = ("--plain", 30, "--weighted", 20, "--limit", 1, "--out", folder)
    check(run("reproduce", "strongreject", *asked), "output-reproduce.json")
    check(read(folder / "study.json"), "study.json")
    check(read(folder / "plan.json"), "study-plan.json")


def test_studies_of_bounds(tmp_path: Path) -> None:
    folder = tmp_path / "synthetic"
    asked = ("--prompts-count", 1000, "--repeats", 1, "--budget", 10, "--design", "naive")
    found = run("reproduce", "synthetic", *asked, "--design", "balanced", "--out", folder)
    check(found, "output-reproduce-synthetic.json")
    check(read(folder / "study.json"), "study-synthetic.json")
    check(read(folder / "plan.json"), "study-synthetic-plan.json")
    for path in (folder / "cells").iterdir():
        check(read(path), "study-synthetic-cell.json")
    folder = tmp_path / "completions"
    asked = ("--budget", 2, "--limit", 100, "--train-draws", 5, "--test-draws", 5)
    found = run("reproduce", "realtoxicity", *asked, "--design", "optimized", "--out", folder)
    check(found, "output-reproduce-realtoxicity.json")
    check(read(folder / "study.json"), "study-realtoxicity.json")
    check(read(folder / "plan.json"), "study-realtoxicity-plan.json")


def test_what_is_steered_and_what_is_listed(tmp_path: Path) -> None:
    check(run("steer", "refusal", "--out", tmp_path / "direction"), "output-steer.json")
    check(read(tmp_path / "direction" / "direction.json"), "direction.json")
    check(read(tmp_path / "direction" / "spend.json"), "spend.json")
    for command in ("targets", "judges", "doctor"):
        check(run(command), f"output-{command}.json")


def read(path: Path) -> Any:
    assert read_json(path)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(colour="red"),
        lambda document: document.pop("judge"),
        lambda document: document.update(seed="1"),
        lambda document: document["contract"].update(colour="red"),
        lambda document: document.update(schema=2),
    ],
)
def test_a_document_that_is_not_as_declared_is_found(change: Callable[[Any], object]) -> None:
    contract = {
        "target": "t",
        "revision": None,
        "template": None,
        "system": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": None,
        "max_new_tokens": 8,
        "stop_ids": [0],
        "stop": [],
        "precision": "exact",
        "thinking": "drop",
        "extra_body": None,
    }
    document: dict[str, Any] = {
        "schema": 1,
        "contract": contract,
        "contract_digest": "0",
        "judge": "j",
        "seed": 1,
        "run_id": "r",
        "checksum": "0",
    }
    schema = schemas()["ledger.json"]
    assert errors(document, schema) == []
    change(document)
    assert len(errors(document, schema)) == 1


def test_shapes_know_what_may_be_null_and_what_two_types_may_not_share() -> None:
    assert schema_of(shape("a", x=float | None), title="a")["properties"]["x"] == {
        "type": ["number", "null"]
    }
    nested = schema_of(shape("a", x=Nullable(shape("b", y=int))), title="a")
    assert nested["properties"]["x"] == {"anyOf": [{"$ref": "#/$defs/b"}, {"type": "null"}]}
    with pytest.raises(ValueError, match="'b'"):
        schema_of(shape("a", x=shape("b", y=int), z=shape("b", y=str)), title="a")


def test_every_command_that_prints_json_has_a_schema() -> None:
    from typer.main import get_command

    from tailbound.cli.app import app

    named = {command_of(name) for name in OUTPUTS}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        nested = getattr(command, "commands", {}).values() or [command]
        for one in nested:
            if any("--json" in parameter.opts for parameter in one.params):
                assert name in named
