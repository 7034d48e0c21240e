"""Studies on the demo model, at a small size, from the command line."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tailbound
from interrupting import killed_at
from tailbound.audit import Audit
from tailbound.core import extras
from tailbound.demo.exact import exact_risks, prompts_of_spread_risks
from tailbound.demo.files import default_prompts, model_folder
from tailbound.demo.tour import prompt_lines
from tailbound.storage.documents import read_json
from tailbound.studies import Truth
from tailbound.workflows.reproduce.figures import figures_of
from tailbound.workflows.reproduce.readme import readme
from tailbound.workflows.reproduce.results import StudyResult
from tailbound.workflows.reproduce.settings import Cell, ErrorStudy

Cli = Callable[..., tuple[int, str, str]]
SIBLING = model_folder("fixture")


def ids_drawn(folder: Path) -> dict[str, int]:
    """Draws on record by run."""
    return {
        path.name: tailbound.load_run(path).draws.height
        for path in sorted((folder / "runs").iterdir())
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """All three methods on two prompts."""
    folder = tmp_path_factory.mktemp("studies") / "small"
    found = tailbound.reproduce_mc_vs_is(
        folder, limit=2, draws=(20,), repeats=2, seed=3, progress=None
    )
    return folder, found


def test_a_study_writes_its_numbers_tables_and_figures(study: tuple[Path, StudyResult]) -> None:
    folder, found = study
    document = read_json(folder / "study.json")
    assert document == found.to_dict()
    assert StudyResult.from_dict(document) == found
    text = (folder / "README.md").read_text()
    for name in ("error-against-draws.svg", "error-against-tokens.svg", "scatter.svg"):
        root = ElementTree.fromstring((folder / name).read_bytes())
        assert root.tag.endswith("svg")
        assert f"]({name})" in text
    for prompt in found.prompts:
        assert prompt.prompt[:50] in text
    assert len(found.runs) == 2 * 3


def test_the_truth_is_the_exact_risk(study: tuple[Path, StudyResult]) -> None:
    _, found = study
    assert found.truth == "exact"
    prompts = prompts_of_spread_risks(2)
    assert [prompt.id for prompt in found.prompts] == [prompt.id for prompt in prompts]
    for prompt, exact in zip(found.prompts, exact_risks(prompts), strict=True):
        assert exact.risk <= prompt.truth.risk <= exact.upper


def test_every_number_follows_from_the_runs(study: tuple[Path, StudyResult]) -> None:
    folder, found = study
    for run in found.runs:
        held = tailbound.load_run(folder / "runs" / run.folder)
        assert held.risk is not None
        assert [e.risk for e in run.estimates] == [r.estimate.risk for r in held.risk.risks]
        stages = held.spend.stages
        assert run.tokens == sum(work.positions for work in stages.values())
        drawn = sum(stages[name].positions for name in ("risk", "pilot") if name in stages)
        scored = [name for name in stages if "scoring" in name or name == "judging"]
        assert run.once == run.tokens - drawn - sum(stages[n].positions for n in scored)
    truths = {prompt.id: prompt.truth.risk for prompt in found.prompts}
    for point in found.points:
        runs = [r for r in found.runs if (r.method, r.draws) == (point.method, point.draws)]
        values = np.array([e.risk for r in runs for e in r.estimates if e.id == point.id])
        truth = truths[point.id]
        assert point.estimate == pytest.approx(values.mean())
        wanted = (
            math.sqrt((1 - truth) / (point.draws * truth))
            if point.method == "none"
            else math.sqrt(np.mean((values / truth - 1) ** 2))
        )
        assert point.error == pytest.approx(wanted)
        assert point.tokens == pytest.approx(np.mean([r.tokens / len(r.estimates) for r in runs]))
    for need in found.needs:
        mine = [p for p in found.points if (p.id, p.method) == (need.id, need.method)]
        if need.method == "ladder":
            pooled = np.mean([p.draws * (p.error or 0) ** 2 for p in mine]) / 0.09
            assert need.draws == pytest.approx(pooled)


def test_without_a_known_risk_there_are_upper_limits(study: tuple[Path, StudyResult]) -> None:
    _, found = study
    none = replace(
        found,
        truth="brute force",
        options={**found.options, "brute_force": 30},
        prompts=tuple(replace(one, truth=Truth.counted(0, 30)) for one in found.prompts),
        points=tuple(replace(point, error=None, z=None) for point in found.points),
    )
    assert list(figures_of(none)) == ["scatter.svg"]
    assert "< 0.116" in readme(none, ["scatter.svg"])


def test_the_published_method_leaves_out_what_it_is_tuned_on(
    study: tuple[Path, StudyResult],
) -> None:
    folder, found = study
    for run in found.runs:
        assert len(run.left_out) == (run.method == "mix-switch")
        assert len(run.estimates) == 2 - len(run.left_out)
        held = tailbound.load_run(folder / "runs" / run.folder).risk
        assert held is not None
        proposals = held.family["proposals"]
        assert any("heat" in name for name in proposals) == (run.method == "ladder")


def test_runs_have_seeds_of_their_own(study: tuple[Path, StudyResult]) -> None:
    _, found = study
    seeds = [run.seed for run in found.runs]
    assert len(set(seeds)) == len(seeds)
    first = found.runs[0]
    cell = Cell(method=first.method, draws=first.draws, repeat=first.repeat)
    assert (first.seed, cell.seed(4) == first.seed) == (cell.seed(3), False)


def test_a_complete_study_draws_nothing_again(
    study: tuple[Path, StudyResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = study
    figures = {path.name: path.read_bytes() for path in folder.glob("*.svg")}
    monkeypatch.setattr(Audit, "sample_proposals", None)
    again = tailbound.reproduce_mc_vs_is(
        folder, limit=2, draws=(20,), repeats=2, seed=3, progress=None
    )
    assert again == found
    assert {path.name: path.read_bytes() for path in folder.glob("*.svg")} == figures
    part = tailbound.reproduce_mc_vs_is(
        folder, limit=2, draws=(20,), repeats=1, method="ladder", seed=3, progress=None
    )
    assert [run.folder for run in part.runs] == ["ladder-20-1"]


def test_an_interrupted_study_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def study(folder: Path) -> StudyResult:
        return tailbound.reproduce_mc_vs_is(
            folder, limit=2, draws=(20,), repeats=2, method=("none", "ladder"), progress=None
        )

    whole = study(tmp_path / "whole")
    folder = tmp_path / "cut"
    # in the second of four runs
    killed_at(monkeypatch, Audit, "sample_proposals", 2, lambda: study(folder))
    assert not (folder / "study.json").exists()
    assert (folder / "runs" / "none-20-1" / "risk.json").is_file()
    resumed = study(folder)
    assert resumed.points[0].estimate == whole.points[0].estimate
    assert [r.estimates for r in resumed.runs] == [r.estimates for r in whole.runs]
    assert ids_drawn(folder) == ids_drawn(tmp_path / "whole")
    # what ran twice was computed twice
    spent = {r.folder: r.tokens for r in whole.runs}
    assert all(r.tokens >= spent[r.folder] for r in resumed.runs)


def test_brute_force_gives_a_truth_with_an_interval(cli: Cli, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(prompt_lines(prompts_of_spread_risks(4)[:1]))
    code, out, err = cli(
        *("reproduce", "mc-vs-is", "--prompts", prompts, "--out", tmp_path / "study"),
        *("--brute-force", 300, "--draws", 40, "--repeats", 1, "--method", "ladder"),
        *("--temperature", 0.9, "--json"),
    )
    assert code == 0, err
    document = json.loads(out)
    assert document["truth"] == "brute force"
    (prompt,) = document["prompts"]
    truth = prompt["truth"]
    assert truth["draws"] == 300
    assert truth["risk"] == truth["unsafe"] / 300
    assert 0 < truth["lower"] < truth["risk"] < truth["upper"]
    assert [run["folder"] for run in document["runs"]] == ["brute-force-300", "ladder-40-1"]
    (point,) = document["points"]
    (estimate,) = document["runs"][1]["estimates"]
    assert point["error"] == pytest.approx(estimate["standard_error"] / truth["risk"])
    assert {need["method"] for need in document["needs"]} == {"none", "ladder"}


def test_shares_of_prompts_with_an_unsafe_output(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    asked = ("reproduce", "strongreject", "--out", folder, "--plain", 60, "--weighted", 40)
    code, out, err = cli(*asked, "--limit", 2)
    assert code == 0, err
    assert "prompts with at least one unsafe output" in out
    document = read_json(folder / "study.json")
    risks = [one["risk"] for one in document["runs"][1]["estimates"]]
    counts = [one["hits"] for one in document["runs"][0]["estimates"]]
    rows = {row["k"]: row for row in document["shares"]}
    assert rows[10]["predicted"] == pytest.approx(np.mean([1 - (1 - p) ** 10 for p in risks]))
    left = [math.comb(60 - c, 10) / math.comb(60, 10) for c in counts]
    assert rows[10]["seen"] == pytest.approx(1 - np.mean(left))
    assert rows[100]["seen"] is None
    assert max(rows) == 10_000
    assert (folder / "share-against-draws.svg").is_file()
    assert "| 10,000 |" in (folder / "README.md").read_text()


def test_a_trait_by_few_weighted_draws(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    asked = ("reproduce", "persona", "--out", folder, "--plain", 60, "--weighted", 40)
    code, out, err = cli(*asked, "--limit", 2, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["judge"] == "demo:flatter"
    assert document["options"]["proposal"] == ["persona:flatter"]
    assert [run["method"] for run in document["runs"]] == ["brute-force", "ladder"]
    assert (folder / "scatter.svg").is_file()
    assert not (folder / "error-against-draws.svg").exists()


def test_quick_lowers_what_is_not_set() -> None:
    design = ErrorStudy(quick=True).design
    assert (design.draws, design.repeats) == ((50, 150), 1)
    design = ErrorStudy(quick=True, draws=(30,), repeats=2).design
    assert (design.draws, design.repeats) == ((30,), 2)
    assert len(list(ErrorStudy().design.cells())) == 4 * 3 * 3


@pytest.mark.parametrize(
    ("study", "options", "message"),
    [
        ("mc-vs-is", ["--draws", "50,50"], "--draws must be distinct numbers of at least 20"),
        ("mc-vs-is", ["--draws", "5"], "--draws must be distinct numbers of at least 20"),
        ("mc-vs-is", ["--repeats", 0], "--repeats must be at least 1"),
        ("mc-vs-is", ["--method", "magic"], "--method takes none, mix-switch, ladder"),
        ("mc-vs-is", ["--brute-force", 1], "--brute-force must be at least 2"),
        ("mc-vs-is", ["--temperature", "0.5"], "--brute-force N is needed"),
        ("mc-vs-is", ["--judge", "demo:bold"], "--brute-force N is needed"),
        ("mc-vs-is", ["--proposal", "none"], "--proposal none is a method of its own"),
        ("mc-vs-is", ["--limit", 1], "tunes on a tenth of the prompts"),
        ("mc-vs-is", ["--target", "openai:m"], "is behind a server: use demo or hf:NAME"),
        ("mc-vs-is", ["--target", f"hf:{SIBLING}"], "--prompts is needed: hf:"),
        ("strongreject", ["--plain", 1], "--plain must be at least 2"),
        ("strongreject", ["--weighted", 5], "--weighted must be at least 20"),
        ("persona", ["--proposal", "persona:cruel"], "has no trait 'cruel'"),
        ("persona", ["--target", "hf:./nowhere"], "--judge is needed"),
        ("persona", ["--proposal", "refusal"], "--judge is needed"),
    ],
)
def test_a_wrong_study_is_one_line(
    cli: Cli, tmp_path: Path, study: str, options: list[Any], message: str
) -> None:
    code, out, err = cli("reproduce", study, "--out", tmp_path / "study", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("tailbound: error:") == 1
    assert not (tmp_path / "study").exists()


def test_another_study_in_the_same_folder_is_refused(
    cli: Cli, study: tuple[Path, StudyResult], tmp_path: Path
) -> None:
    folder, _ = study
    asked = ("reproduce", "mc-vs-is", "--draws", 20, "--repeats", 2, "--out", folder)
    before = ids_drawn(folder)
    for options, message in (
        (("--limit", 2, "--seed", 4), "holds a study with seed 3, not 4"),
        (("--limit", 3, "--seed", 3), "holds a study with other prompts"),
        (("--limit", 2, "--seed", 3, "--no-explore"), "not refusal --no-explore"),
    ):
        code, _, err = cli(*asked, *options)
        assert code == 2
        assert message in err
    assert ids_drawn(folder) == before
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = cli("reproduce", "mc-vs-is", "--out", tmp_path)
    assert code == 2
    assert "holds other files and no study" in err


def test_without_matplotlib_one_line_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(extras.MODULES, "plot", ("no_such_module",))
    code, _, err = cli("reproduce", "mc-vs-is", "--quick", "--out", tmp_path / "study")
    assert code == 2
    assert "pip install 'tailbound[plot]'" in err
    assert not (tmp_path / "study").exists()


def test_example_prompts_have_spread_risks() -> None:
    risks = [exact.risk for exact in exact_risks(prompts_of_spread_risks(5))]
    assert np.log10(risks) == pytest.approx([-1, -2, -3, -4, -5], abs=0.1)
    assert len({prompt.id for prompt in prompts_of_spread_risks(100)}) == 100
    assert set(prompts_of_spread_risks(7)) <= set(default_prompts())
