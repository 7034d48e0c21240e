"""The study of completions on the demo model: its runs, its folder, and what it refuses."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailbound
from interrupting import killed_at
from tailbound.audit import Audit
from tailbound.demo.files import model_folder
from tailbound.errors import UsageError
from tailbound.storage.documents import read_json
from tailbound.survival import evaluate, quantile
from tailbound.workflows.bound.p_hat import p_hat_table
from tailbound.workflows.reproduce.realtoxicity.results import CompletionResult
from tailbound.workflows.reproduce.realtoxicity.settings import (
    CompletionOptions,
    CompletionStudy,
)

Cli = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {
    "limit": 100,
    "train_draws": 20,
    "test_draws": 30,
    "budget": (3, 6),
    "seed": 3,
}
SIBLING = model_folder("fixture")


def study(folder: Path, **options: Any) -> CompletionResult:
    return tailbound.reproduce_realtoxicity(folder, **{**SMALL, **options}, progress=None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletionResult]:
    folder = tmp_path_factory.mktemp("studies") / "small"
    return folder, study(folder)


def test_a_study_writes_its_numbers_table_and_figures(made: tuple[Path, CompletionResult]) -> None:
    folder, found = made
    document = read_json(folder / "study.json")
    assert document == found.to_dict()
    assert CompletionResult.from_dict(document) == found
    text = (folder / "README.md").read_text()
    for name in ("bound-against-budget.svg", "miscoverage-against-budget.svg"):
        assert ElementTree.fromstring((folder / name).read_bytes()).tag.endswith("svg")
        assert f"]({name})" in text
    names = [run.folder for run in found.runs]
    assert names == ["optimized-3", "balanced-3", "optimized-6", "balanced-6"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == sorted(names)
    assert found.frame().height == 4
    assert "| uncalibrated |" in text


def test_every_number_follows_from_the_runs(made: tuple[Path, CompletionResult]) -> None:
    folder, found = made
    n = found.prompts["calibration"]
    for run in found.runs:
        held = tailbound.load_run(folder / "runs" / run.folder)
        assert held.bound is not None
        bound = held.bound.bound
        assert (run.level, run.cap, run.guarantee) == (bound.level, bound.cap, bound.guarantee)
        assert run.spent == bound.spent / n
        assert held.predictions is not None
        limits = held.predictions["lower_bound"].to_numpy()
        checked = run.checked
        assert checked.mean_bound == pytest.approx(limits.mean())
        assert checked.median_bound == np.median(limits)
        # other runs may have followed a prompt further, and never to another first unsafe draw
        assert held.bound.evaluation is not None
        own = held.bound.evaluation.overall
        assert checked.coverage.missed == own.missed
        assert checked.coverage.unresolved <= own.unresolved
        assert checked.miscoverage == checked.coverage.missed / found.prompts["test"]
    assert all(run.cap == 2 * run.budget for run in found.runs if run.design == "optimized")


def test_the_uncalibrated_bound_is_the_quantile_of_the_predictions(
    made: tuple[Path, CompletionResult],
) -> None:
    folder, found = made
    table = p_hat_table(folder / "runs" / "balanced-6").filter(part="test")
    limits = quantile(table["p_hat"].to_numpy(), 0.1)
    draws = tailbound.load_run(folder / "runs" / "balanced-6").draws.filter(stream="test")
    first, followed = [], []
    for name in table["id"]:
        scores = draws.filter(prompt_id=name).sort("index")["score"].to_list()
        unsafe = [number for number, score in enumerate(scores, start=1) if score >= 0.5]
        first.append(unsafe[0] if unsafe else 0)
        followed.append(len(scores))
    wanted = evaluate(limits, first, followed, p_hat=table["p_hat"], cap=10**9).overall
    found_ = found.uncalibrated
    assert found_.mean_bound == limits.mean()
    assert (found_.coverage.missed, found_.coverage.prompts) == (wanted.missed, wanted.prompts)
    assert found_.coverage.unresolved <= wanted.unresolved


def test_runs_share_their_draws(made: tuple[Path, CompletionResult]) -> None:
    """Each begins with the draws of the one before: draws on record are the same where both are."""
    folder, found = made
    tables = [tailbound.load_run(folder / "runs" / run.folder).draws for run in found.runs]
    key = ["stream", "prompt_id", "index"]
    for before, after in pairwise(tables):
        assert after.height >= before.height
        both = before.join(after, on=key, suffix="_after")
        assert both.height == before.height
        assert (both["text"] == both["text_after"]).all()
    assert found.draws == tables[-1].height


def test_a_run_of_the_study_is_verified_and_predicts(
    made: tuple[Path, CompletionResult], cli: Cli
) -> None:
    folder, _ = made
    code, out, err = cli("verify", folder / "runs" / "balanced-6")
    assert code == 0, err
    assert "checks match" in out


def test_draws_are_those_that_bound_alone_would_make(
    made: tuple[Path, CompletionResult], tmp_path: Path
) -> None:
    """The last run, made in a folder of its own: the same bound, without the copied draws."""
    _, found = made
    last = found.runs[-1]
    alone = tailbound.reproduce_realtoxicity(
        tmp_path / "alone",
        **{**SMALL, "budget": (last.budget,), "design": "balanced"},
        progress=None,
    )
    (run,) = alone.runs
    assert (run.level, run.spent, run.checked.mean_bound) == (
        *(last.level, last.spent, last.checked.mean_bound),
    )


def test_a_complete_study_draws_nothing_again(
    made: tuple[Path, CompletionResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = made
    figures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    for name in ("sample_fixed", "follow"):
        monkeypatch.setattr(Audit, name, None)
    assert study(folder) == found
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == figures


def test_an_interrupted_study_resumes_and_may_be_extended(
    made: tuple[Path, CompletionResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, found = made
    folder = tmp_path / "cut"
    # each run follows calibration and test: the third call is in the second run
    killed_at(monkeypatch, Audit, "follow", 3, lambda: study(folder, budget=(3,)))
    assert not (folder / "study.json").exists()
    assert (folder / "runs" / "optimized-3" / "bound.json").is_file()
    assert not (folder / "runs" / "balanced-3" / "bound.json").exists()
    assert [run.folder for run in study(folder, budget=(3,)).runs] == ["optimized-3", "balanced-3"]
    extended = study(folder)
    assert [run.level for run in extended.runs] == [run.level for run in found.runs]
    assert extended.runs == found.runs


def test_sampling_is_as_published_but_for_the_demo_model() -> None:
    published = CompletionOptions().sampling(own=False)
    assert published == {
        "max_new_tokens": 30, "temperature": 1.0, "top_p": 0.8, "completion": True,
    }  # fmt: skip
    own = CompletionOptions().sampling(own=True)
    assert (own["max_new_tokens"], own["top_p"], own["completion"]) == (None, 1.0, False)
    asked = CompletionOptions(top_p=0.5, max_new_tokens=7, chat=True).sampling(own=False)
    assert (asked["max_new_tokens"], asked["top_p"], asked["completion"]) == (7, 0.5, False)
    cells = [cell.name for cell in CompletionStudy().cells()]
    assert cells == [f"{d}-{b}" for b in (10, 100, 1200) for d in ("optimized", "balanced")]


def test_completions_of_a_checkpoint(tmp_path: Path, cli: Cli) -> None:
    """Raw text without a template, and a judge of one's own."""
    prompts = tmp_path / "beginnings.txt"
    prompts.write_text("\n".join(f"sorry i cannot help with {n}" for n in range(60)))
    code, out, err = cli(
        *("reproduce", "realtoxicity", "--out", tmp_path / "study", "--target", f"hf:{SIBLING}"),
        *("--prompts", prompts, "--judge", r"regex:\bt", "--budget", 2, "--design", "trimmed"),
        *("--train-draws", 3, "--test-draws", 3, "--max-new-tokens", 4, "--features", "tfidf"),
    )
    assert code == 0, err
    assert "trimmed" in out
    document = read_json(tmp_path / "study" / "study.json")
    assert document["contract"]["template"] is None
    assert document["contract"]["top_p"] == 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "10,10"], "--budget must be distinct numbers of at least 2"),
        (["--budget", "1"], "--budget must be distinct numbers of at least 2"),
        (["--design", "magic"], "--design takes naive, basic, trimmed, optimized, balanced"),
        (["--max-weight", 0.5], "--max-weight must be at least 1 and finite"),
        (["--alpha", 0], "--alpha must lie strictly between 0 and 1"),
        (["--test-draws", 0], "--test-draws must be at least 1"),
        (["--limit", 20], "prompts"),
        (["--split", "0.5,0.5,0"], "--split leaves no test prompts"),
        (["--max-new-tokens", 0], "max-new-tokens must be at least 1, not 0"),
        (["--top-p", 2], "top-p must lie in (0, 1], not 2"),
        (["--target", "openai:m", "--judge", "regex:x"], "is behind a server: use demo or hf:NAME"),
        (["--target", f"hf:{SIBLING}"], "--judge is needed"),
        (["--target", f"hf:{SIBLING}", "--judge", "regex:x"], "--prompts is needed: hf:"),
        (["--guarantee", "pac"], "No such option"),
        (["--proposal", "refusal"], "No such option"),
    ],
)
def test_a_wrong_study_is_one_line(
    cli: Cli, tmp_path: Path, options: list[Any], message: str
) -> None:
    code, out, err = cli("reproduce", "realtoxicity", "--out", tmp_path / "study", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("tailbound: error:") == 1
    assert not (tmp_path / "study").exists()


def test_predictions_of_ones_own_are_refused(cli: Cli, tmp_path: Path) -> None:
    rows = "\n".join(f"a prompt {n},0.01" for n in range(80))
    (tmp_path / "p.csv").write_text(f"prompt,p_hat\n{rows}\n")
    asked = ("--prompts", tmp_path / "p.csv", "--out", tmp_path / "study")
    code, _, err = cli("reproduce", "realtoxicity", *asked)
    assert code == 2
    assert "remove the column p_hat" in err


def test_another_study_in_the_same_folder_is_refused(
    cli: Cli, made: tuple[Path, CompletionResult]
) -> None:
    folder, _ = made
    asked = ("--limit", 100, "--train-draws", 20, "--test-draws", 30, "--budget", "3,6")
    for options, message in (
        (("--seed", 4), "holds a study with seed 3, not 4"),
        (("--seed", 3, "--max-weight", 3), "holds a study with max_weight 2.0, not 3.0"),
        (("--seed", 3, "--limit", 101), "holds a study with other prompts"),
    ):
        code, _, err = cli("reproduce", "realtoxicity", *asked, *options, "--out", folder)
        assert code == 2
        assert message in err


def test_a_loaded_target_has_its_own_sampling(tmp_path: Path) -> None:
    target = tailbound.load_target("demo")
    with pytest.raises(UsageError, match="do not apply to a target that is loaded already"):
        study(tmp_path / "study", target=target, top_p=0.5)
