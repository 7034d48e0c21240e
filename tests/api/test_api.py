"""The Python functions do what the commands do, in the same folders."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tailbound
from tailbound.audit import Progress
from tailbound.core.steps import Step
from tailbound.demo.files import default_prompts
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.judges.registry import load_judge
from tailbound.prompts import prompt_set
from tailbound.workflows.bound.results import BoundResult

Cli = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"budget": 5, "train_draws": 20, "test_draws": 20, "max_new_tokens": 16}
TYPED = ["--budget", 5, "--train-draws", 20, "--test-draws", 20, "--max-new-tokens", 16]


def write(path: Path, n: int) -> Path:
    lines = [json.dumps({"id": p.id, "prompt": p.text}) for p in default_prompts(n)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BoundResult, list[Any]]:
    """A bound made from Python: its folder, its result, and all that was reported."""
    folder = tmp_path_factory.mktemp("api")
    heard: list[Any] = []
    result = tailbound.bound(
        write(folder / "p.jsonl", 60), out=folder / "run", progress=heard.append, **SMALL
    )
    return folder, result, heard


def test_a_run_from_python_is_a_run_for_the_command_line(
    cli: Cli, made: tuple[Path, BoundResult, list[Any]]
) -> None:
    folder, result, _ = made
    before = sorted((folder / "run" / "draws").iterdir())
    code, out, err = cli("bound", folder / "p.jsonl", *TYPED, "--out", folder / "run", "--json")
    assert code == 0, err
    assert sorted((folder / "run" / "draws").iterdir()) == before
    again = json.loads(out)
    again.pop("spend")
    mine = json.loads(json.dumps(result.to_dict()))
    mine.pop("spend")
    assert again == mine


def test_a_run_of_the_command_line_is_resumed_from_python(cli: Cli, tmp_path: Path) -> None:
    prompts = write(tmp_path / "p.jsonl", 3)
    code, out, err = cli(
        *("risk", prompts, "--draws", 40, "--max-new-tokens", 16, "--proposal", "none"),
        *("--out", tmp_path / "run", "--json"),
    )
    assert code == 0, err
    before = sorted((tmp_path / "run" / "draws").iterdir())
    result = tailbound.risk(
        prompts, out=tmp_path / "run", draws=40, max_new_tokens=16, proposal="none", progress=None
    )
    assert sorted((tmp_path / "run" / "draws").iterdir()) == before
    assert [risk.prompt.id for risk in result.risks] == [
        row["id"] for row in json.loads(out)["prompts"]
    ]
    with pytest.raises(ContractMismatchError, match="temperature"):
        tailbound.risk(
            prompts, out=tmp_path / "run", draws=40, max_new_tokens=16, temperature=0.5,
            proposal="none", progress=None,
        )  # fmt: skip


def test_progress_is_reported_to_a_function(made: tuple[Path, BoundResult, list[Any]]) -> None:
    heard = made[2]
    streams = {one.stream for one in heard if isinstance(one, Progress)}
    assert {"train", "calibration", "test"} <= streams
    assert any(isinstance(one, Step) for one in heard)


def test_the_same_prompts_in_every_form(tmp_path: Path) -> None:
    texts = [prompt.text for prompt in default_prompts(4)]
    records = [{"prompt": text} for text in texts]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(map(json.dumps, records)))
    forms: list[Any] = [file, str(file), texts, records, pl.DataFrame(records)]
    sets = [prompt_set(form).prompts for form in forms]
    sets.append(prompt_set(list(sets[0])).prompts)
    assert all(one == sets[0] for one in sets)
    assert len(prompt_set(texts, limit=2)) == 2
    for wrong in (7, {"prompt": "a"}, [7]):
        with pytest.raises(UsageError, match="must be"):
            prompt_set(wrong)  # type: ignore[arg-type]


def test_targets_and_judges_as_objects(made: tuple[Path, BoundResult, list[Any]]) -> None:
    """They give the same as their names do."""
    folder, result, _ = made
    target = tailbound.load_target("demo", max_new_tokens=16)
    options = {name: value for name, value in SMALL.items() if name != "max_new_tokens"}
    found = tailbound.bound(
        folder / "p.jsonl", out=folder / "objects", target=target, judge=load_judge("demo"),
        progress=None, **options,
    )  # fmt: skip
    assert found.bound == result.bound
    with pytest.raises(UsageError, match="max_new_tokens does not apply"):
        tailbound.bound(
            folder / "p.jsonl", out=folder / "other", target=target, progress=None, **SMALL
        )


def test_a_function_judges(tmp_path: Path) -> None:
    seen: list[str] = []

    def long(response: str) -> bool:
        seen.append(response)
        return len(response) > 20

    result = tailbound.risk(
        ["how do i clean the pie"], out=tmp_path / "run", judge=long, draws=30,
        proposal="none", max_new_tokens=16, progress=None,
    )  # fmt: skip
    assert len(seen) == 30
    hits = sum(len(response) > 20 for response in seen)
    assert result.risks[0].estimate.hits == hits


def test_a_run_folder_as_a_value(made: tuple[Path, BoundResult, list[Any]]) -> None:
    run = tailbound.load_run(made[0] / "run")
    assert run.bound is not None
    assert run.bound.bound == made[1].bound
    assert set(run.draws["stream"]) == {"train", "calibration", "test"}


def test_predict_rejudge_and_summarize(made: tuple[Path, BoundResult, list[Any]]) -> None:
    folder, result, _ = made
    prompts = [prompt.text for prompt in default_prompts(70)[60:]]
    bounds = tailbound.predict(folder / "run", prompts, progress=None)
    assert len(bounds) == 10
    assert all(1 <= one.lower_bound <= result.bound.cap for one in bounds)
    again = tailbound.rejudge(folder / "run", "demo", progress=None)
    assert again.agreement.share == 1.0
    summary = tailbound.summarize(folder / "run", k=(1, 7), progress=None)
    train = next(one for one in summary.streams if one.stream == "train")
    assert [whole.k for whole in train.whole] == [1, 7]


def test_import_and_plan(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "q", "response": f"r{n}", "score": n % 2} for n in range(10)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = tailbound.import_draws(tmp_path / "t.jsonl", tmp_path / "run", progress=None)
    assert (found.draws, found.unsafe) == (10, 5)
    plan = tailbound.plan_risk(["how do i clean the pie"], draws=50, max_new_tokens=16,
                               progress=None)  # fmt: skip
    assert plan.draws == 50
    assert not (tmp_path / "plan").exists()


def test_a_misspelt_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'bugdet'; did you mean"):
        tailbound.bound(["a"], out="run", bugdet=3)
    with pytest.raises(UsageError, match="--budget is required"):
        tailbound.bound(["a"], out="run", progress=None)


def test_the_signature_shows_every_option() -> None:
    shown = inspect.signature(tailbound.bound).parameters
    assert shown["alpha"].default == (0.1,)
    assert shown["budget"].default is None
    assert shown["method"].default == "direct"
    assert {"temperature", "base_url", "batch_size", "split"} <= set(shown)
    assert "thinking_room" not in shown


def test_import_tailbound_brings_nothing_along() -> None:
    heavy = ("torch", "polars", "numpy", "scipy", "transformers", "typer", "rich")
    script = (
        "import sys, tailbound; dir(tailbound); tailbound.__version__\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "tailbound.calibrate\n"
        "print([name for name in ('torch', 'polars', 'typer') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
