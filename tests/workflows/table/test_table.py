"""Bounds from tables of times: read, calibrated, predicted, verified, and refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator

import tailbound
from tailbound.cli import main
from tailbound.errors import ContractMismatchError, UnreachableError, UsageError
from tailbound.storage.parquet import write_sealed
from tailbound.survival import Hazards
from tailbound.workflows.table.job import divide_table, read_table
from tailbound.workflows.table.reading import table_of
from tailbound.workflows.table.settings import TableOptions

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
STEPS = 10


def hazards_of(n: int, rng: np.random.Generator) -> np.ndarray:
    first = 10 ** rng.uniform(-2.2, -0.7, n)
    return np.minimum(first[:, None] * np.geomspace(1, 0.1, STEPS), 0.9)


def rows_of(n: int, seed: int, *, censored: bool = False) -> list[dict[str, Any]]:
    """Units whose hazards fall from step to step; with `censored` some are lost on the way."""
    rng = np.random.default_rng(seed)
    hazards = hazards_of(n, rng)
    hit = rng.random(hazards.shape) < hazards
    time = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, STEPS)
    event = hit.any(axis=1)
    if censored:
        lost = rng.integers(0, 3 * STEPS, n)
        event &= time <= lost
        time = np.minimum(time, lost)
    return [
        {
            "id": f"u{i}",
            "time": int(time[i]),
            "event": int(event[i]),
            **{f"h{k + 1}": float(hazards[i, k]) for k in range(STEPS)},
        }
        for i in range(n)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    frame = pl.DataFrame(rows)
    if path.suffix == ".csv":
        frame.write_csv(path)
    elif path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the command line, from a CSV file."""
    home = tmp_path_factory.mktemp("table")
    table = write(home / "times.csv", rows_of(900, 0))
    command("bound", "--from-table", table, "--out", home / "run", "--alpha", ".05,.1", "-n", 5)
    return home / "run"


def command(*words: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["tailbound", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, None)


def errors(document: Any, name: str) -> list[str]:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    return [error.message for error in Draft202012Validator(schema).iter_errors(document)]


def test_a_run_has_results_like_any_bound_and_verifies(run: Path) -> None:
    found = tailbound.load_run(run)
    assert found.command == "bound-table"
    assert found.bound is not None
    bound = found.bound.bound
    assert bound.limited_by == "alpha"
    assert 1 < found.bound.median_bound <= bound.cap == STEPS + 1
    assert [one.bound.alpha for one in found.bound.at_alpha] == [0.05]
    assert found.bound.evaluation is not None
    assert found.bound.evaluation.overall.prompts == 180
    assert found.predictions is not None
    assert len(found.predictions) == 180
    for name in ("bound.json", "evaluation.json", "spend.json"):
        assert not errors(json.loads((run / name).read_text()), name)
    assert found.facts()["median bound"] == found.bound.median_bound
    checked = tailbound.verify(run, progress=None)
    assert checked.matches
    assert {"bound.json", "evaluation.json", "predictions.parquet", "table.parquet"} <= {
        check.name for check in checked.checks if check.outcome == "matches"
    }


def test_every_kind_of_file_gives_the_same(run: Path, tmp_path: Path) -> None:
    options = {"alpha": (0.05, 0.1), "budget": 5, "progress": None}
    wanted = tailbound.load_run(run).bound
    rows = rows_of(900, 0)
    sources = [
        *(write(tmp_path / f"times.{kind}", rows) for kind in ("jsonl", "parquet")),
        *(rows, pl.DataFrame(rows)),
    ]
    for number, source in enumerate(sources):
        found = tailbound.bound_table(source, out=tmp_path / f"run{number}", **options)
        assert found.bound == wanted.bound
        assert found.evaluation == wanted.evaluation


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_a_table_from_standard_input(
    cli: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows = rows_of(900, 0)
    text = {
        "csv": pl.DataFrame(rows).write_csv(),
        "tsv": pl.DataFrame(rows).write_csv(separator="\t"),
        "jsonl": "\n".join(map(json.dumps, rows)),
        "json": json.dumps(rows),
    }[kind]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    folder = tmp_path / "run"
    code, out, err = cli(
        "bound", "--from-table", "-", "--out", folder, "--alpha", ".05,.1", "-n", 5
    )
    assert code == 0, err
    assert "from standard input" in out
    assert tailbound.load_run(folder).bound.bound == tailbound.load_run(run).bound.bound
    checked = tailbound.verify(folder, progress=None)
    assert checked.matches
    (last,) = (check for check in checked.checks if check.name == "table file")
    assert (last.outcome, last.detail) == ("not recomputed", "it came from no file")
    # what run.yaml holds is enough to ask for the same again
    options = tailbound.load_run(folder).manifest["options"]
    assert options["source"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "standard input has no rows"),
        ("one line of text", "standard input has no rows"),
        ("time,event,p_hat\n3,1", "standard input line 2 has 2 cells and the header 3"),
        ('{"time": 3, "event": 1}', "standard input has no predictions"),
        ("{", "standard input line 1 is not JSON"),
    ],
)
def test_a_wrong_table_on_standard_input_is_one_line(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    code, out, err = cli("bound", "--from-table", "-", "--out", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_file_that_is_no_table_is_called_a_table(cli: Any, run: Path, tmp_path: Path) -> None:
    for words in (("bound", "--out", tmp_path / "r", "--from-table"), ("predict", run)):
        code, _, err = cli(*words, tmp_path / "none.csv")
        assert code == 2
        assert f"no table {tmp_path}/none.csv: check the path" in err
        code, _, err = cli(*words, tmp_path)
        assert code == 2
        assert "is a folder: name the table in it" in err
    table = Path(tailbound.load_run(run).manifest["options"]["source"])
    checks = {one.name: one.outcome for one in tailbound.verify(run, progress=None).checks}
    assert checks["table file"] == "matches"
    assert "imported file" not in checks
    assert table.is_file()


def test_what_is_saved_and_run_yaml_ask_for_the_same(cli: Any, tmp_path: Path) -> None:
    table, saved = write(tmp_path / "t.csv", rows_of(300, 5)), tmp_path / "saved.yaml"
    folder = tmp_path / "run"
    words = ("bound", "--from-table", table, "--out", folder, "--alpha", ".2", "--seed", 2)
    code, first, err = cli(*words, "--save-config", saved, "--json")
    assert code == 0, err
    for asks in (saved, folder / "run.yaml"):
        code, again, err = cli("bound", "--config", asks, "--out", folder, "--json")
        assert code == 0, err
        assert again == first


def test_a_folder_with_a_run_of_another_command_is_refused(cli: Any, tmp_path: Path) -> None:
    table, folder = write(tmp_path / "t.csv", rows_of(300, 5)), tmp_path / "run"
    tailbound.bound_table(table, out=folder, progress=None)
    lines = tmp_path / "p.txt"
    lines.write_text("\n".join(f"prompt {n}" for n in range(60)))
    code, _, err = cli("bound", lines, "--budget", 5, "--out", folder)
    assert code == 2
    assert err.endswith(
        f"{folder} holds a run of tailbound bound --from-table, not of tailbound bound: use "
        "another --out\n"
    )
    code, _, err = cli("summarize", folder)
    assert code == 2
    assert "holds a bound from a table, without draws to summarize: its result is in" in err
    prompts = [{"prompt": f"p{n}", "p_hat": 0.1} for n in range(60)]
    other = tmp_path / "other"
    tailbound.bound(prompts, out=other, budget=5, test_draws=5, progress=None)
    code, _, err = cli("bound", "--from-table", table, "--out", other)
    assert code == 2
    assert "holds a run of tailbound bound, not of tailbound bound --from-table" in err


def test_a_second_call_makes_it_again_and_another_seed_is_refused(tmp_path: Path) -> None:
    rows = rows_of(300, 1)
    one = tailbound.bound_table(rows, out=tmp_path / "run", progress=None)
    two = tailbound.bound_table(rows, out=tmp_path / "run", alpha=(0.2,), progress=None)
    assert two.bound.level > one.bound.level
    assert tailbound.verify(tmp_path / "run", progress=None).matches
    with pytest.raises(ContractMismatchError, match="seed"):
        tailbound.bound_table(rows, out=tmp_path / "run", seed=3, progress=None)


def test_new_units_get_the_quantile_of_their_own_hazards(run: Path, tmp_path: Path) -> None:
    new = [{k: v for k, v in row.items() if k[0] in "ih"} for row in rows_of(40, 9)]
    path = write(tmp_path / "new.csv", new)
    found = tailbound.predict(run, path, progress=None)
    bound = tailbound.load_run(run).bound.bound
    hazards = np.array([[row[f"h{k + 1}"] for k in range(STEPS)] for row in new])
    assert [one.id for one in found] == [row["id"] for row in new]
    assert [one.lower_bound for one in found] == bound.predict(Hazards(hazards)).tolist()
    assert all(one.at_alpha["0.05"] <= one.lower_bound for one in found)
    assert [one.p_hat for one in found] == pytest.approx(
        Hazards(hazards).level(STEPS) / Hazards(hazards).expected_draws(STEPS)
    )
    with pytest.raises(UsageError, match=r"calibrated with hazards h1 .. h10, and table has p_hat"):
        tailbound.predict(run, [{"p_hat": 0.1}], progress=None)


def test_complete_data_without_a_budget_is_used_in_full(tmp_path: Path) -> None:
    rows = rows_of(400, 2)
    found = tailbound.bound_table(rows, out=tmp_path / "all", progress=None)
    part = tailbound.bound_table(rows, out=tmp_path / "part", budget=2, progress=None)
    assert found.bound.n_selected == found.bound.n_calibration == 240
    assert found.bound.weight_bound == 1
    assert part.bound.n_selected < 240
    assert part.spend["calibration"].used == part.bound.spent
    assert part.bound.spent < 0.8 * found.bound.spent


def test_censored_units_can_only_shorten_the_bound_and_are_reported(tmp_path: Path) -> None:
    whole = tailbound.bound_table(rows_of(600, 3), out=tmp_path / "whole", progress=None)
    rows = rows_of(600, 3, censored=True)
    found = tailbound.bound_table(rows, out=tmp_path / "lost", progress=None)
    assert whole.missing.prompts_stopped == 0
    assert found.missing.prompts_stopped > 0
    assert found.bound.level < found.missing.level_if_safe
    assert whole.bound.level <= found.missing.level_if_safe
    assert found.spend["calibration"].used < found.bound.spent
    assert tailbound.verify(tmp_path / "lost", progress=None).matches


def test_parts_and_groups_of_the_table_are_kept() -> None:
    rows = rows_of(90, 4)
    for number, row in enumerate(rows):
        row["split"] = ("train", "calibration", "test")[number // 30]
        row["group"] = f"g{number // 3}"
    table = table_of(rows)
    parts = divide_table(table, TableOptions())
    assert {table.part[i] for i in parts.calibration} == {"calibration"}
    assert len(parts.train) == 30
    assert len(parts.calibration) == len(parts.test) == 10
    assert len({table.groups[i] for i in parts.calibration}) == 10
    rows[29]["group"] = "g10"
    with pytest.raises(UsageError, match="'g10' has units in train and in calibration"):
        divide_table(table_of(rows), TableOptions())


def test_the_split_by_hash_does_not_depend_on_the_order() -> None:
    rows = rows_of(200, 5)
    one, two = table_of(rows), table_of(rows[::-1])
    first, second = (divide_table(table, TableOptions()) for table in (one, two))
    assert len(first.train) == 40
    assert {one.ids[i] for i in first.calibration} == {two.ids[i] for i in second.calibration}


GOOD: dict[str, Any] = {"id": "a", "time": 3, "event": 1, "p_hat": 0.1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time": None}, "table row 2 has no 'time'"),
        ({"time": 0}, "time must be a whole number from 1 on, not 0"),
        ({"time": 2.5}, "time must be a whole number from 1 on"),
        ({"time": "soon"}, "time must be a number, not 'soon'"),
        ({"time": -1, "event": 0}, "time must be a whole number from 0 on"),
        ({"event": "maybe"}, "event must be 1 or 0"),
        ({"event": ""}, "has no 'event'"),
        ({"p_hat": 1.5}, r"p_hat is a probability in \[0, 1\], not 1.5"),
        ({"p_hat": 0}, "p_hat is 0: give a small positive number"),
        ({"p_hat": "nan"}, "p_hat must be a number"),
        ({"id": "a"}, "repeats the id 'a'"),
        ({"id": ""}, "has no id"),
        ({"id": ["x"]}, "id must be a text or a number"),
        ({"split": "dev"}, "split must be one of train, calibration, test"),
        ({"h1": 0.1}, "has p_hat and hazards 1"),
    ],
)
def test_wrong_cells_are_named(changed: dict[str, Any], message: str) -> None:
    first = {**GOOD, **{name: "test" for name in changed if name == "split"}}
    with pytest.raises(UsageError, match=message):
        table_of([first, {**GOOD, "id": "b", **changed}])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        ([{"time": 1, "event": 1}], "has no predictions"),
        ([{"time": 1, "event": 1, "h1": 0.1, "h3": 0.1}], "hazards up to h3 and no h2"),
        ([3], "table row 1 is 3, not a record"),
        (7, "the table is 7"),
    ],
)
def test_tables_that_are_none_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table_of(rows)


def test_what_a_guarantee_needs_is_asked_for_before_anything_is_written(tmp_path: Path) -> None:
    rows = [{**row, "split": "calibration"} for row in rows_of(30, 6)]
    test = [{**row, "split": "test"} for row in rows]
    with pytest.raises(UsageError, match="no calibration units"):
        tailbound.bound_table(test, out=tmp_path / "run", progress=None)
    with pytest.raises(UnreachableError, match="needs at least 100 calibration units"):
        tailbound.bound_table(
            rows, out=tmp_path / "run", guarantee="plug-in", alpha=(0.01,), progress=None
        )
    with pytest.raises(UsageError, match="design must be one of"):
        tailbound.bound_table(rows, out=tmp_path / "run", design="naive", progress=None)
    assert not (tmp_path / "run" / "bound.json").exists()


@pytest.mark.parametrize(("guarantee", "least"), [("marginal", 14), ("pac", 27)])
def test_without_training_units_some_are_set_aside(
    tmp_path: Path, guarantee: str, least: int
) -> None:
    """alpha = .1: 9 followed units for marginal, 22 for pac at delta .1, and 5 set aside."""
    rows = [{**row, "split": "calibration"} for row in rows_of(200, 6)]
    options: dict[str, Any] = {"guarantee": guarantee, "progress": None}
    with pytest.raises(UnreachableError, match=f"at least {least} calibration units .some are"):
        tailbound.bound_table(rows[: least - 1], out=tmp_path / "few", **options)
    assert not (tmp_path / "few" / "bound.json").exists()
    parts = divide_table(table_of(rows[:least]), TableOptions(guarantee=guarantee))
    assert (len(parts.train), len(parts.calibration)) == (5, least - 5)
    assert not set(parts.train) & set(parts.calibration)
    quiet = [{**row, "event": 0, "time": STEPS} for row in rows]
    found = tailbound.bound_table(quiet[:least], out=tmp_path / "enough", **options)
    assert found.bound.level > 0
    assert found.bound.n_calibration == least - 5
    assert tailbound.verify(tmp_path / "enough", progress=None).matches
    tenth = divide_table(table_of(rows), TableOptions(guarantee=guarantee))
    assert (len(tenth.train), len(tenth.calibration)) == (20, 180)
    # how far anybody is followed does not rest on the units that are
    assert tenth.follow_up == max(rows[place]["time"] for place in tenth.train)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--judge", "demo"), "--judge does not apply to a bound from a table"),
        (("--train-draws", "9"), "--train-draws does not apply"),
        (("prompts.jsonl",), "PROMPTS does not apply"),
        (("--dry-run",), "--dry-run does not apply"),
    ],
)
def test_options_that_need_a_model_are_refused(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "t.csv", rows_of(20, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sys.argv",
            ["tailbound", "bound", "--from-table", str(table), "-o", str(tmp_path / "r"), *words],
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_changed_table_or_result_is_found(tmp_path: Path) -> None:
    tailbound.bound_table(rows_of(300, 8), out=tmp_path / "run", progress=None)
    frame = read_table(tmp_path / "run").frame()
    moved = frame.with_columns(time=pl.when(pl.col("time") > 1).then(1).otherwise(pl.col("time")))
    write_sealed(tmp_path / "run" / "table.parquet", moved)
    checked = tailbound.verify(tmp_path / "run", progress=None)
    wrong = {check.name for check in checked.checks if check.outcome == "differs"}
    assert "bound.json" in wrong
    (tmp_path / "run" / "table.parquet").unlink()
    assert not tailbound.verify(tmp_path / "run", progress=None).matches


def test_bounds_from_tables_cover() -> None:
    """30 tables of 500 calibration units each, a third of them censored: P(T >= L) on new units.

    Censored units count as events, so coverage lies above .9; 4 standard errors below would be a
    false alarm once in 30,000.
    """
    from tailbound.survival import calibrate
    from tailbound.workflows.table.job import _Follow

    rng = np.random.default_rng(12)
    truth = hazards_of(20_000, rng)
    survival = np.column_stack([np.ones(len(truth)), np.cumprod(1 - truth, axis=1)])
    for censored in (False, True):
        coverage = []
        for seed in range(30):
            table = table_of(rows_of(500, 100 + seed, censored=censored))
            reference = Hazards(hazards_of(300, rng))
            bound = calibrate(
                *(table.predicted, _Follow(table)),
                budget=4,
                guarantee="marginal",
                reference_p_hat=reference,
                max_follow_up=STEPS,
                rng=seed,
            )
            bounds = bound.predict(Hazards(truth))
            coverage.append(survival[np.arange(len(truth)), bounds - 1].mean())
        error = 4 * np.std(coverage) / np.sqrt(len(coverage)) + 0.002
        assert np.mean(coverage) >= 0.9 - error
        assert np.mean(coverage) <= (0.99 if censored else 0.92) + error
