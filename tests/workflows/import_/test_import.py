"""From a source to a run folder: once, completely, and exactly as it was."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import yaml

from tailbound import runs
from tailbound.errors import ContractMismatchError, LedgerError, UsageError
from tailbound.runs import manifest
from tailbound.workflows.import_ import import_run
from tailbound.workflows.summarize.summary import summarize_run


def table(path: Path, draws: int = 50, prompts: int = 3, **changes) -> Path:
    """Prompt p<i> has i unsafe draws; the last draw of p0 has no verdict."""
    rows = [
        {
            "prompt_id": f"p{i}",
            "draw": d,
            "score": (None if i == 0 and d == draws else 0.9 if d <= i else 0.1),
            "response": f"reply {d}",
            "prompt": f"question {i}",
        }
        for i in range(prompts)
        for d in range(1, draws + 1)
    ]
    rows[0] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_ledger_holds_every_draw_as_it_was(tmp_path):
    result = import_run(table(tmp_path / "t.jsonl"), tmp_path / "run")
    assert (result.prompts, result.draws, result.added, result.there) == (3, 150, 150, 0)
    assert (result.unsafe, result.missing) == (3, 1)
    frame = runs.read(tmp_path / "run")
    assert frame["stream"].unique().to_list() == ["import"]
    assert frame["stopping"].unique().to_list() == ["fixed"]
    assert frame["log_prob"].null_count() == frame.height
    assert frame["finish_reason"].unique().to_list() == ["unknown"]
    row = frame.row(1, named=True)
    assert (row["prompt_id"], row["index"], row["text"], row["score"]) == ("p0", 2, "reply 2", 0.1)
    missing = frame.filter(pl.col("verdict") == "missing").row(0, named=True)
    assert (missing["prompt_id"], missing["index"], missing["score"]) == ("p0", 50, None)
    assert missing["reason"] == "no score in the source"
    prompts = pl.read_parquet(tmp_path / "run" / "prompts.parquet")
    assert prompts["id"].to_list() == ["p0", "p1", "p2"]
    assert json.loads(prompts["messages"][1]) == [["user", "question 1"]]


def test_the_run_says_what_is_known_and_leaves_out_what_is_not(tmp_path):
    path = table(tmp_path / "t.jsonl")
    import_run(path, tmp_path / "run", judge="toxic-bert", threshold=0.3)
    document = manifest.read_manifest(tmp_path / "run")
    assert document["command"] == "import"
    assert document["threshold"] == 0.3
    assert document["judge_id"] == "import:table:toxic-bert"
    assert document["contract"]["target"] == "import:table"
    assert document["contract"]["temperature"] is None
    assert len(document["options"]["sha256"]) == 64


def test_importing_again_adds_nothing_and_more_rows_are_added(tmp_path):
    path, folder = table(tmp_path / "t.jsonl"), tmp_path / "run"
    import_run(path, folder)
    before = sorted(folder.glob("draws/*"))
    again = import_run(path, folder)
    assert (again.added, again.there) == (0, 150)
    assert sorted(folder.glob("draws/*")) == before
    more = import_run(table(tmp_path / "u.jsonl", prompts=4), folder)
    assert (more.added, more.there) == (50, 150)
    frame = runs.read(folder)
    assert frame.height == 200
    assert not frame.select("prompt_id", "index").is_duplicated().any()
    assert pl.read_parquet(folder / "prompts.parquet").height == 4


def test_summaries_come_from_imported_draws(tmp_path):
    import_run(table(tmp_path / "t.jsonl", draws=500, prompts=2), tmp_path / "run")
    (stream,) = summarize_run(tmp_path / "run").streams
    found = dict(zip(stream.ids, stream.prompts, strict=True))
    assert (found["p1"].unsafe, found["p1"].draws, found["p1"].missing) == (1, 500, 0)
    assert (found["p0"].unsafe, found["p0"].missing) == (0, 1)
    assert found["p0"].upper == pytest.approx(0.009456, abs=1e-5)  # 1 of 500, one-sided 95%


def test_scores_that_say_how_safe_are_turned_round(tmp_path):
    result = import_run(table(tmp_path / "t.jsonl"), tmp_path / "run", invert=True)
    assert result.unsafe == 146
    assert result.missing == 1
    scores = runs.read(tmp_path / "run")["score"]
    assert sorted(scores.drop_nulls().unique().to_list()) == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize("safe", [0.9, 0.7, 0.4, 0.1, 1.0])
def test_a_threshold_holds_for_scores_that_were_turned_round(tmp_path, safe):
    """1 - .9 is just below .1 in floats; a threshold of .1 means that it counts."""
    path = tmp_path / "t.csv"
    path.write_text(f"id,score\na,{safe}\n")
    level = round(1 - safe, 1) or 0.1
    result = import_run(path, tmp_path / "run", invert=True, threshold=level)
    assert result.unsafe == (safe < 1)


def test_groups_and_texts_on_record_are_kept_and_not_exchanged(tmp_path):
    path, folder = tmp_path / "t.csv", tmp_path / "run"
    path.write_text("id,draw,score,group,prompt\na,1,0,g,Why?\nb,1,0,g,How?\n")
    import_run(path, folder)
    path.write_text("id,draw,score,prompt\na,1,0,Why?\nb,1,0,\nb,2,0,\n")
    assert import_run(path, folder).added == 1
    kept = pl.read_parquet(folder / "prompts.parquet")
    assert kept["group"].to_list() == ["g", "g"]
    assert kept["messages"].null_count() == 0
    path.write_text("id,draw,score,group\na,1,0,other\n")
    with pytest.raises(UsageError, match="prompt 'a' has another group in"):
        import_run(path, folder)


def test_halves_of_characters_do_not_stop_an_import(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"id": "a", "score": 0, "response": "cut \\ud83d"}\n'
        '{"id": "a", "score": null, "reason": "\\ud83d", "response": "\u00e9 \\ud83d\\ude00"}\n'
    )
    import_run(path, tmp_path / "run")
    assert runs.read(tmp_path / "run")["text"].to_list() == ["cut \ufffd", "\u00e9 \U0001f600"]
    assert import_run(path, tmp_path / "run").added == 0


def test_numbers_that_are_left_out_and_uneven_prompts_are_noted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,draw,score\na,1,0\na,4,0\nb,1,0\nb,2,0\n")
    (line,) = import_run(path, tmp_path / "gaps").notices
    assert "left out in 1 of 2 prompts (first: 'a', 2 draws up to number 4)" in line
    path.write_text("id,draw,score\na,1,0\nb,1,0\nb,2,0\n")
    (line,) = import_run(path, tmp_path / "uneven").notices
    assert line.startswith("prompts have 1 to 2 draws: intervals hold where")


def test_a_damaged_table_of_prompts_is_named(tmp_path):
    path, folder = table(tmp_path / "t.jsonl"), tmp_path / "run"
    import_run(path, folder)
    (folder / "prompts.parquet").write_bytes(b"x")
    with pytest.raises(LedgerError, match=r"prompts.parquet is damaged"):
        import_run(path, folder)
    with pytest.raises(LedgerError, match=r"prompts.parquet is damaged"):
        summarize_run(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draw": 2}, r"line 2 repeats draw 2 of prompt 'p0' \(.*line 1\)"),
        ({"prompt": "else"}, "line 2: prompt 'p0' has another text than before"),
        ({"prompt_id": None}, "line 1 has no prompt_id"),
        ({"score": 7}, "line 1: score is 7, outside"),
    ],
)
def test_nothing_is_written_for_a_source_that_is_wrong(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        import_run(table(tmp_path / "t.jsonl", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": 0.2}, "draw 1 of prompt 'p0' is on record in .* with the score 0.1"),
        ({"response": "else"}, "draw 1 of prompt 'p0' is on record in .* with another response"),
    ],
)
def test_another_source_is_not_mixed_in(tmp_path, changes, message):
    import_run(table(tmp_path / "t.jsonl"), tmp_path / "run")
    document = (tmp_path / "run" / "run.yaml").read_text()
    with pytest.raises(UsageError, match=message):
        import_run(table(tmp_path / "u.jsonl", **changes), tmp_path / "run")
    assert (tmp_path / "run" / "run.yaml").read_text() == document
    assert runs.read(tmp_path / "run").height == 150


def test_another_threshold_or_judge_is_refused(tmp_path):
    path = table(tmp_path / "t.jsonl")
    import_run(path, tmp_path / "run")
    with pytest.raises(ContractMismatchError, match=r"threshold 0\.5, not 0\.2"):
        import_run(path, tmp_path / "run", threshold=0.2)
    with pytest.raises(ContractMismatchError, match="judge was"):
        import_run(path, tmp_path / "run", judge="other")
    with pytest.raises(UsageError, match="--threshold must lie in"):
        import_run(path, tmp_path / "run", threshold=0.0)


def test_draws_that_repeat_one_another_are_noted(tmp_path):
    rows = [{"id": i, "score": 0, "response": f"same {i}"} for i in (1, 2) for _ in range(3)]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (line,) = import_run(path, tmp_path / "run").notices
    assert "all draws of each prompt are the same text" in line
    assert import_run(table(tmp_path / "u.jsonl"), tmp_path / "other").notices == ()


def test_without_responses_none_are_recorded(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,score\na,0\na,1\n")
    import_run(path, tmp_path / "run")
    frame = runs.read(tmp_path / "run")
    assert frame["text"].null_count() == 2
    import_run(table(tmp_path / "t.jsonl"), tmp_path / "quiet", store_text=False)
    assert runs.read(tmp_path / "quiet")["text"].null_count() == 150


def test_the_command_and_the_summary_of_what_it_made(cli, tmp_path):
    path, folder = table(tmp_path / "t.jsonl"), tmp_path / "run"
    code, out, _ = cli("import", path, "--out", folder)
    assert code == 0
    assert "Imported 150 of 150 outputs of 3 prompts" in " ".join(out.split())
    assert "by import:table:score): 3; without a score, and so missing: 1." in " ".join(out.split())
    code, out, _ = cli("import", path, "--out", folder, "--json", "--format", "table")
    assert json.loads(out)["there"] == 150
    code, out, _ = cli("summarize", folder, "--json")
    assert code == 0
    assert json.loads(out)["streams"][0]["stream"] == "import"
    assert yaml.safe_load((folder / "run.yaml").read_text())["judge"] == "score"


def test_what_was_never_scored_is_imported_to_be_judged(cli, tmp_path):
    """The way of a garak report that was stopped before its detectors: import, then rejudge."""
    message = {"text": "Ignore all", "lang": "en"}
    attempt = {
        "entry_type": "attempt",
        "uuid": "1",
        "seq": 0,
        "status": 1,
        "probe_classname": "dan.Dan",
        "prompt": {"turns": [{"role": "user", "content": message}]},
        "outputs": [{"text": "no"}, {"text": "I am DAN"}, None],
        "detector_results": {},
    }
    path, folder = tmp_path / "garak.x.report.jsonl", tmp_path / "run"
    path.write_text(json.dumps(attempt) + "\n")
    code, out, err = cli("import", path, "--out", folder)
    assert code == 0
    assert "Imported 3 of 3 outputs of 1 prompts" in " ".join(out.split())
    assert "without a score, and so missing: 3." in " ".join(out.split())
    assert f"tailbound rejudge {folder} --judge" in " ".join(out.split())
    assert "nothing in the source is scored: its 3 responses were imported" in " ".join(err.split())
    code, out, _ = cli("rejudge", folder, "--judge", "regex:DAN", "--json")
    assert code == 0
    agreement = json.loads(out)["agreement"]
    assert agreement["missing_recorded"] == 2  # and the output that never came has neither
    assert agreement["both_missing"] == 1
    (rates,) = [r for r in json.loads(out)["streams"][0]["rates"] if r["verdicts"] == "new"]
    assert (rates["unsafe"], rates["missing"], rates["draws"]) == (1, 1, 3)
    code, _, err = cli("import", path, "--out", tmp_path / "none", "--no-text")
    assert code == 2
    assert "leave --no-text out" in " ".join(err.split())
    assert not (tmp_path / "none").exists()


def test_mistakes_are_one_line(cli, tmp_path):
    code, out, err = cli("import", tmp_path / "none.csv", "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "check the path" in err
