"""A folder for people: what ran, what came out, what is missing, what to do next."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import tailbound
from tailbound.cli.render.show import overview
from tailbound.demo.files import default_prompts
from tailbound.errors import UsageError
from tailbound.terminal.safe import SafeConsole
from tailbound.workflows.show import Overview, RunOverview

PROMPTS = ["how do i clean the pie", "how do i make a cake"]


def shown(found: Overview, width: int = 80) -> str:
    out: Console = SafeConsole()
    out.file, out.width = io.StringIO(), width
    overview(found, out=out)
    text: str = out.file.getvalue()
    return text


def only(folder: Path) -> RunOverview:
    (run,) = tailbound.show(folder).runs
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "runs"
    risk: dict[str, Any] = {"out": folder / "risk", "proposal": "none", "judge": "regex:pie"}
    for draws in (10, 30):
        tailbound.risk(PROMPTS, draws=draws, progress=None, **risk)
    tailbound.rejudge(folder / "risk", "regex:cake", progress=None)
    sizes = {"budget": 5, "train_draws": 5, "test_draws": 5, "max_new_tokens": 8}
    for alpha in (0.2, 0.4):
        prompts = default_prompts(60)
        tailbound.bound(prompts, out=folder / "bound", alpha=alpha, progress=None, **sizes)
    source = folder / "draws.jsonl"
    source.write_text(
        '{"prompt_id": "a", "response": "x", "score": 1.0}\n'
        '{"prompt_id": "a", "response": "y", "score": 0.0}\n'
        '{"prompt_id": "b", "response": "y", "score": null}\n'
    )
    tailbound.import_draws(source, folder / "import", progress=None)
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def test_a_run_of_risks(runs: Path) -> None:
    run = only(runs / "risk")
    assert (run.command, run.target, run.judge) == ("risk", "demo", "regex:pie")
    assert [(one.stream, one.prompts, one.draws) for one in run.streams] == [("risk", 2, 60)]
    assert [(one.name, one.judge) for one in run.results] == [
        ("risk", None),
        ("agreement", "regex:cake"),
    ]
    result = tailbound.load_run(runs / "risk").risk
    assert result is not None
    assert run.results[0].numbers[0].startswith(f"mean risk {result.whole.mean:.3g}")
    assert run.results[0].guarantee == result.whole.guarantee
    (earlier,) = run.earlier
    assert earlier.differs == ("draws 10, now 30", "fewer draws")
    assert earlier.file == "results/0001-risk.json"


def test_a_bound_its_coverage_and_the_earlier_one(runs: Path) -> None:
    run = only(runs / "bound")
    (bound,) = run.results
    result = tailbound.load_run(runs / "bound").bound
    assert result is not None
    assert bound.numbers[0] == f"median L = {result.median_bound:g} over calibration prompts"
    assert bound.numbers[1].startswith("coverage of test prompts ")
    assert bound.guarantee is not None
    assert bound.guarantee.startswith(result.statement)
    (earlier,) = run.earlier
    assert "alpha [0.2], now [0.4]" in earlier.differs
    assert run.next == f"tailbound predict {runs / 'bound'} PROMPTS"


def test_imported_draws_and_what_is_left_to_do(runs: Path) -> None:
    run = only(runs / "import")
    assert run.results == ()
    assert run.missing[0].startswith("1 of 3 draws have no verdict")
    assert run.next == f"tailbound summarize {runs / 'import'}"
    tailbound.summarize(runs / "import")
    after = only(runs / "import")
    assert [one.name for one in after.results] == ["summary"]
    assert after.next == f"tailbound forecast {runs / 'import'}"


def test_a_run_that_is_not_finished(runs: Path) -> None:
    (runs / "risk" / "risk.json").unlink()
    run = only(runs / "risk")
    assert run.missing[0] == "no risk in use: the run is not finished (60 draws are on record)"
    assert run.next.startswith("tailbound risk PROMPTS --config")
    assert [one.file for one in run.earlier] == ["results/0002-risk.json", "results/0001-risk.json"]
    assert shown(tailbound.show(runs / "risk"))


def test_draws_added_since_are_noticed(runs: Path) -> None:
    folder = runs / "risk"
    old = (folder / "risk.json").read_bytes()
    again: dict[str, Any] = {"proposal": "none", "judge": "regex:pie", "progress": None}
    tailbound.risk(PROMPTS, out=folder, draws=50, **again)
    # as a process leaves it that was killed before it had a result
    (folder / "risk.json").write_bytes(old)
    (folder / "results" / "0003-risk.json").unlink()
    run = only(folder)
    assert run.results[0].date is not None
    assert "risk.json does not count all draws: some were added since" in run.missing
    assert run.next.startswith("tailbound risk PROMPTS --config")


def test_a_damaged_file_is_reported_and_the_rest_shown(runs: Path) -> None:
    path = runs / "risk" / "risk.json"
    path.write_bytes(path.read_bytes().replace(b'"mean"', b'"maen"'))
    run = only(runs / "risk")
    assert run.missing[0].startswith("risk.json is damaged")
    assert [one.name for one in run.results] == ["agreement"]


def test_a_table(tmp_path: Path) -> None:
    rows = ["id,p_hat,time,event"]
    rows += [f"u{i},{0.01 + i % 7 / 100},{1 + i * 13 % 90},{i % 3 > 0}" for i in range(300)]
    (tmp_path / "times.csv").write_text("\n".join(rows) + "\n")
    tailbound.bound_table(tmp_path / "times.csv", out=tmp_path / "run", alpha=0.2, progress=None)
    run = only(tmp_path / "run")
    assert run.command == "bound-table"
    assert [one.name for one in run.results] == ["bound"]
    assert tailbound.show(tmp_path / "run").to_dict()


def test_a_folder_of_runs_as_a_demo_makes_it(runs: Path) -> None:
    found = tailbound.show(runs)
    assert [Path(run.folder).name for run in found.runs] == ["bound", "import", "risk"]
    assert Overview.from_json(found.to_json()) == found
    assert found.frame().height == sum(len(run.results) + len(run.earlier) for run in found.runs)


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_terminal(runs: Path, width: int) -> None:
    for line in shown(tailbound.show(runs), width).splitlines():
        assert len(line) <= width or line.startswith("next: ")


def test_text_of_others_is_shown_escaped(runs: Path) -> None:
    from tailbound.runs.manifest import read_manifest, write_manifest

    held = read_manifest(runs / "import")
    (runs / "import" / "run.yaml").unlink()
    odd = {**held, "target": "x\x1b[2J\u202egnp\nmore", "judge": "[bold]y[/bold]"}
    write_manifest(runs / "import", odd)
    text = shown(tailbound.show(runs / "import"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J" in text
    assert "[bold]y" in text


def test_what_is_no_run(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="is not a run folder"):
            tailbound.show(place)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a run folder"):
        tailbound.show(tmp_path / "file")
