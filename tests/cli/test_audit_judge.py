"""`tailbound audit-judge`: the sample, the sheet and its way back, a better judge, wrong usage."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

import tailbound
from tailbound.cli.app import app
from tailbound.core.contract import Verdict
from tailbound.errors import JudgeError, LedgerError, UsageError
from tailbound.judges import Exchange
from tailbound.runs.identity import read_identity
from tailbound.storage.parquet import write_sealed
from tailbound.workflows.audit_judge import JudgeAudit, JudgeSample
from tailbound.workflows.audit_judge.drawing import draw_judge_sample
from tailbound.workflows.audit_judge.settings import AuditJudgeOptions

Make = Callable[..., Path]


@pytest.fixture
def imported(tmp_path: Path) -> Make:
    """A run of 400 draws: 40 recorded unsafe, 10 missing; of each ten, truth says "bad" in some."""

    def make(rows: list[dict[str, Any]] | None = None) -> Path:
        if rows is None:
            rows = [
                {
                    "prompt_id": f"p{n % 4}",
                    "prompt": f"question {n % 4}",
                    "response": f"bad {n}" if n % 20 == 0 or n % 100 == 7 else f"good {n}",
                    "score": None if n % 40 == 39 else float(n % 10 == 0),
                }
                for n in range(400)
            ]
        source = tmp_path / "draws.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        tailbound.import_draws(source, out=tmp_path / "run", progress=None)
        return tmp_path / "run"

    return make


def audit(run: Path, judge: object = None, **options: Any) -> Any:
    return tailbound.audit_judge(run, judge, progress=None, **options)  # type: ignore[arg-type]


def filled(sheet: Path, **words: str) -> list[dict[str, str]]:
    """The rows of a sheet, labelled by its responses."""
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {**row, "label": words.get(row["response"].split()[0].lstrip("'="), "safe")} for row in rows
    ]


def save(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.DictWriter(file, ["row", "label", "prompt", "response"])
        out.writeheader()
        out.writerows(rows)
    return path


class Better:
    """Knows the truth; has no verdict on one response."""

    threshold = 0.5
    id = "better@1"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def judge(self, exchanges: list[Exchange]) -> list[Verdict]:
        self.seen += [one.response for one in exchanges]
        return [
            Verdict(None, "cannot tell")
            if one.response == "good 1"
            else Verdict(float("bad" in one.response))
            for one in exchanges
        ]


def test_a_sheet_goes_out_and_comes_back(imported: Make, tmp_path: Path) -> None:
    run = imported()
    sample = audit(run, sheet=tmp_path / "sheet.csv", negatives=100)
    assert isinstance(sample, JudgeSample)
    sizes = {one.recorded: (one.draws, one.sampled) for one in sample.strata}
    assert sizes == {"unsafe": (40, 40), "safe": (350, 100), "missing": (10, 10)}
    assert [one.inclusion_probability for one in sample.strata][1] == pytest.approx(100 / 350)
    rows = filled(tmp_path / "sheet.csv", bad="unsafe")
    assert len(rows) == 150
    assert {row["prompt"] for row in rows} == {f"question {n}" for n in range(4)}
    found = audit(run, labels=save(tmp_path / "labels.csv", rows))
    caught = sum(row["label"] == "unsafe" for row in rows)
    unsafe = {one.recorded: one.unsafe for one in found.strata}
    assert unsafe["unsafe"] == 20
    assert sum(unsafe.values()) == caught
    due = (20 + 350 * unsafe["safe"] / 100) / 400
    assert found.overall.corrected.estimate == pytest.approx(due)
    assert found.overall.uncorrected.rate == pytest.approx(40 / 390)
    low, high = found.overall.corrected.interval
    assert low < 24 / 400 < high
    assert tailbound.load_run(run).judge_audit == found
    assert JudgeAudit.from_json(found.to_json()) == found


def test_labelling_everything_gives_the_truth(imported: Make, tmp_path: Path) -> None:
    found = audit(imported(), Better(), negatives=1_000)
    strata = {one.recorded: one for one in found.strata}
    assert (strata["safe"].unclear, strata["safe"].labelled) == (1, 349)
    assert found.overall.corrected.on_record == (24 / 400, 25 / 400)
    assert found.errors.caught == 20
    assert found.errors.precision.estimate == 0.5
    assert any("no clear label" in one for one in found.warnings)


def test_the_same_seed_gives_the_same_sample_and_another_one_another(imported: Make) -> None:
    run = imported()
    first, again = (audit(run, Better(), negatives=50).labels for _ in range(2))
    assert first == again
    assert audit(run, Better(), negatives=50, seed=1).labels != first


def test_no_draw_is_judged_twice_and_other_verdicts_of_the_judge_are_used(imported: Make) -> None:
    run, judge = imported(), Better()
    audit(run, judge, negatives=50)
    assert len(judge.seen) == len(set(judge.seen)) == 100
    again = Better()
    audit(run, again, negatives=50)
    assert again.seen == []
    tailbound.rejudge(run, Better(), progress=None)
    third = Better()
    audit(run, third, negatives=300)
    assert third.seen == []


def test_results_have_a_history_and_verify_makes_them_again(imported: Make) -> None:
    run = imported()
    audit(run, Better(), negatives=50)
    audit(run, Better(), negatives=60)
    names = [one.name for one in tailbound.load_run(run).history]
    assert names == ["judge-audit", "judge-audit"]
    shown = tailbound.show(run)
    assert "corrected" in " ".join(shown.runs[0].results[0].numbers)
    checked = tailbound.verify(run, progress=None)
    assert checked.matches
    assert "judge-audit.json" in {one.name for one in checked.checks}
    path = run / "judge-audit.json"
    path.write_text(path.read_text().replace('"confidence": 0.95', '"confidence": 0.9'))
    assert not tailbound.verify(run, progress=None).matches


def test_a_spreadsheet_runs_nothing_and_shows_everything(imported: Make, tmp_path: Path) -> None:
    texts = [
        '=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", " =1", "＝1", "|calc",
        "'=1", "a\x1b[2J", "a\u202eb", "a\x00b", 'quote " and, comma\nline',
    ]  # fmt: skip
    rows = [
        {"prompt_id": "p", "prompt": "=1+1", "response": text, "score": float(n % 2)}
        for n, text in enumerate(texts)
    ]
    audit(imported(rows), sheet=tmp_path / "sheet.csv")
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [(row["prompt"], row["response"]) for row in csv.DictReader(file)]
    assert {prompt for prompt, _ in cells} == {"'=1+1"}
    responses = {response for _, response in cells}
    assert len(responses) == len(texts)
    for response in responses:
        assert response[0] not in "=+-@|＝\t\n "
        assert "\x1b" not in response
        assert "\u202e" not in response
    assert 'quote " and, comma\nline' in responses
    assert (tmp_path / "sheet.csv").read_bytes().startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[1:], "lacks 1 of 150 sampled rows"),
        (lambda rows: [*rows, rows[0]], "is there twice"),
        (
            lambda rows: [{**rows[0], "row": "s0-1\x1b[2J"}, *rows[1:]],
            r"'s0-1.x1b.* is not of the",
        ),
        (lambda rows: [{**rows[0], "label": ""}, *rows[1:]], "has no label: write unsafe"),
        (lambda rows: [{**rows[0], "label": "maybe"}, *rows[1:]], "'maybe' is not valid"),
    ],
    ids=["missing", "duplicate", "foreign", "empty", "wrong"],
)
def test_a_sheet_that_is_not_the_filled_one_is_refused(
    imported: Make, tmp_path: Path, change: Callable[..., Any], said: str
) -> None:
    run = imported()
    audit(run, sheet=tmp_path / "sheet.csv", negatives=100)
    rows = filled(tmp_path / "sheet.csv", bad="unsafe")
    with pytest.raises(UsageError, match=said) as error:
        audit(run, labels=save(tmp_path / "labels.csv", change(rows)))
    assert "\n" not in str(error.value)
    assert not (run / "judge-audit.json").exists()


def test_a_sheet_of_an_earlier_sample_is_foreign(imported: Make, tmp_path: Path) -> None:
    run = imported()
    audit(run, sheet=tmp_path / "old.csv")
    audit(run, sheet=tmp_path / "new.csv", seed=1)
    rows = filled(tmp_path / "old.csv", bad="unsafe")
    with pytest.raises(UsageError, match="not of the sample on record"):
        audit(run, labels=save(tmp_path / "labels.csv", rows))


def test_unclear_labels_are_unsafe_in_the_upper_end(imported: Make, tmp_path: Path) -> None:
    run = imported()
    audit(run, sheet=tmp_path / "sheet.csv", negatives=100)
    clear = audit(run, labels=save(tmp_path / "a.csv", filled(tmp_path / "sheet.csv", bad="1")))
    rows = filled(tmp_path / "sheet.csv", bad="1")
    unclear = [{**row, "label": "?" if row["label"] == "safe" else "1"} for row in rows]
    found = audit(run, labels=save(tmp_path / "b.csv", unclear))
    assert found.overall.corrected.interval[1] > 0.9 > clear.overall.corrected.interval[1]
    assert found.overall.corrected.interval[0] < clear.overall.corrected.interval[0] * 1.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give a better judge by --judge"),
        ({"judge": "regex:a", "sheet": "x.csv"}, "--judge and --sheet exclude each other"),
        ({"sheet": "x.txt"}, "ends in .csv"),
        ({"sheet": "no/such/x.csv"}, "a folder that exists"),
        ({"labels": "x.csv"}, "no sample on record"),
        ({"sheet": "x.csv", "threshold": 0.5}, "--threshold is that of --judge"),
        ({"judge": "regex:a", "negatives": -1}, "--negatives must be"),
        ({"judge": "regex:a", "positives": 0, "negatives": 0, "missing": 0}, "nothing to label"),
        ({"judge": "regex:a", "confidence": 1.0}, "--confidence must lie"),
    ],
)
def test_wrong_usage_is_one_line(imported: Make, options: dict[str, Any], said: str) -> None:
    judge = options.pop("judge", None)
    run = imported()
    with pytest.raises(UsageError, match=said):
        audit(run, judge, **options)
    assert not (run / "judge-audit").exists()


def test_a_sheet_is_never_written_over(imported: Make, tmp_path: Path) -> None:
    run = imported()
    audit(run, sheet=tmp_path / "sheet.csv")
    with pytest.raises(UsageError, match="may hold labels"):
        audit(run, sheet=tmp_path / "sheet.csv")


def test_the_judge_of_the_run_is_not_a_better_one(tmp_path: Path) -> None:
    prompts = ["how do i clean the pie"]
    tailbound.risk(prompts, out=tmp_path / "run", draws=20, proposal="none", progress=None)
    with pytest.raises(UsageError, match="is the judge that the draws were judged by"):
        audit(tmp_path / "run", "demo")
    found = audit(tmp_path / "run", "regex:(?i)pie")
    assert found.overall.corrected.draws == 20


def test_a_judge_that_fails_on_everything_is_an_error(imported: Make) -> None:
    class Broken(Better):
        def judge(self, exchanges: list[Exchange]) -> list[Verdict]:
            raise RuntimeError("no answer")

    run = imported()
    with pytest.raises(JudgeError):
        audit(run, Broken(), positives=3, negatives=3, missing=0)
    assert not (run / "judge-audit.json").exists()


def test_what_is_printed_fits_80_columns(imported: Make, tmp_path: Path) -> None:
    run = imported()
    runner = CliRunner()
    sheet = str(tmp_path / "sheet.csv")
    first = runner.invoke(app, ["audit-judge", str(run), "--sheet", sheet])
    assert first.exit_code == 0, first.output
    assert f"--labels {sheet}" in first.output
    labels = str(save(tmp_path / "labels.csv", filled(tmp_path / "sheet.csv", bad="unsafe")))
    second = runner.invoke(app, ["audit-judge", str(run), "--labels", labels])
    assert second.exit_code == 0, second.output
    assert "kappa" in second.output
    assert "corrected" in second.output
    assert max(cell_len(line) for line in second.output.splitlines()) <= 80
    third = runner.invoke(app, ["audit-judge", str(run), "--labels", labels, "--json"])
    assert json.loads(third.stdout)["overall"]["corrected"]["draws"] == 400


def test_a_score_that_is_no_number_is_missing_and_a_draw_twice_is_an_error(tmp_path: Path) -> None:
    """Polars takes NaN for the largest number, so it would pass for unsafe."""
    rows = [{"prompt_id": "p", "response": f"r{n}", "score": float(n < 3)} for n in range(20)]
    source = tmp_path / "draws.jsonl"
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    folder = tmp_path / "run"
    tailbound.import_draws(source, out=folder, progress=None)
    (shard,) = (folder / "draws").glob("part-*.parquet")
    frame = pl.read_parquet(shard)
    of = read_identity(folder).digest
    nan = pl.when(pl.col("index") == 20).then(float("nan")).otherwise(pl.col("score"))
    write_sealed(shard, frame.with_columns(nan.alias("score")), of=of)
    sample = draw_judge_sample(folder, AuditJudgeOptions())
    assert {one.recorded: one.draws for one in sample.strata} == {
        "unsafe": 3,
        "safe": 16,
        "missing": 1,
    }
    write_sealed(shard.with_name("part-000002.parquet"), frame.head(1), of=of)
    with pytest.raises(LedgerError, match="twice"):
        draw_judge_sample(folder, AuditJudgeOptions())
