"""Each format as its own tool writes it: what becomes of prompts, draws and verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tailbound.core.prompt import content_id
from tailbound.errors import MissingExtraError, UsageError
from tailbound.workflows.import_ import import_run, read_source


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(source) -> list[tuple]:
    return [(d.prompt_id, d.index, d.score, d.reason, d.text) for d in source.draws]


# Tables


def test_a_table_with_everything(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "prompt_id,draw,score,response,prompt,group,reason\n"
        'a,1,0.75,"no, I will not",Why?,g,\n'
        "a,2,,,Why?,g,judge timed out\n"
        "b,1,1,sure,How?,,\n"
    )
    source = read_source(path)
    assert source.format == "table"
    assert rows(source) == [
        ("a", 1, 0.75, None, "no, I will not"),
        ("a", 2, None, "judge timed out", ""),
        ("b", 1, 1.0, None, "sure"),
    ]
    assert source.draws[0].messages == (("user", "Why?"),)
    assert [draw.group for draw in source.draws] == ["g", "g", None]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_without_a_draw_are_numbered_within_their_prompt(tmp_path, ending):
    table = [
        {"id": name, "score": score} for name, score in zip("abab", (0, 0.5, 1, None), strict=True)
    ]
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        jsonl(path, *table)
    else:
        pl.DataFrame(
            table, schema={"id": pl.String, "score": pl.Float64}, strict=False
        ).write_parquet(path)
    assert [(d.prompt_id, d.index, d.score) for d in read_source(path).draws] == [
        ("a", 1, 0),
        ("b", 1, 0.5),
        ("a", 2, 1),
        ("b", 2, None),
    ]


def test_draws_from_0_on_move_to_1_and_the_judge_names_a_column(tmp_path):
    path = jsonl(
        tmp_path / "t.jsonl",
        {"id": 3, "epoch": 0, "toxicity": 0.1, "score": 0.9},
        {"id": 3, "epoch": 1, "toxicity": True, "score": 0.9},
    )
    source = read_source(path, judge="toxicity")
    assert [(d.prompt_id, d.index, d.score) for d in source.draws] == [("3", 1, 0.1), ("3", 2, 1)]
    assert source.judge == "toxicity"
    named = read_source(path, judge="my judge")
    assert (named.judge, named.draws[0].score) == ("my judge", 0.9)
    assert "no column 'my judge': the scores are those of the column 'score'" in named.notices[0]
    assert source.notices == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "score": 1.5}, r"line 2: score is 1.5, outside \[0, 1\]: rescale it"),
        ({"id": "a", "score": "-0.1"}, "line 2: score is -0.1, outside"),
        ({"id": "a", "score": "high"}, "line 2: score 'high' is not a number"),
        ({"id": "a", "score": [0.1]}, "line 2: score is .0.1., not one number"),
        ({"id": "a"}, "line 2 has no score: leave it empty"),
        ({"id": "a", "score": 10**400}, "line 2: score is inf, outside"),
        ({"id": "a", "score": "y" * 999}, "line 2: score 'yyy.*[.]{3} is not a number"),
        ({"id": "", "score": 0}, "line 2 has no id: every draw belongs to a prompt"),
        ({"id": float("nan"), "score": 0}, "line 2 has no id: every draw belongs to a prompt"),
        ({"id": True, "score": 0}, "line 2: id is True, neither text nor a number"),
        ({"id": ["a"], "score": 0}, "line 2: id is .'a'., neither text nor a number"),
        ({"id": "a\ud83d", "score": 0}, "line 2: id .* has half a character"),
        ({"id": "a", "score": 0, "group": {"x": 1}}, "line 2: group is .* neither text nor"),
        ({"id": "a", "score": 0, "response": ["x"]}, "line 2: response is not text"),
        ({"id": "a", "score": 0, "prompt": {"x": 1}}, "prompt is .* neither text nor chat"),
    ],
)
def test_wrong_rows_are_named(tmp_path, row, message):
    first = {"id": "z", "score": 0, "prompt": None, "response": "x"}
    path = jsonl(tmp_path / "t.jsonl", first, row)
    with pytest.raises(UsageError, match=message):
        read_source(path)


@pytest.mark.parametrize("draw", ["one", -1, 1.5, None, True, float("inf"), 1e300, 2**63])
def test_wrong_draws_are_named(tmp_path, draw):
    path = jsonl(tmp_path / "t.jsonl", {"id": "z", "score": 0, "draw": draw})
    with pytest.raises(UsageError, match="line 1: draw must be a whole number from 0 on"):
        read_source(path)


def test_missing_columns_and_files_are_named(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", {"id": "a", "points": 0})
    with pytest.raises(UsageError, match=r"no column 'score' for the scores: it has id, points"):
        read_source(path)
    path = jsonl(tmp_path / "u.jsonl", {"name": "a", "score": 0})
    with pytest.raises(UsageError, match="no column 'prompt_id' or 'id' for the prompt ids"):
        read_source(path)
    with pytest.raises(UsageError, match=r"no file .*none.csv"):
        read_source(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="is a folder"):
        read_source(tmp_path)
    (tmp_path / "empty.csv").write_text("id,score\n")
    with pytest.raises(UsageError, match="has no rows"):
        read_source(tmp_path / "empty.csv")
    with pytest.raises(UsageError, match="--format must be one of inspect, lm-eval, garak, table"):
        read_source(path, format="xml")


def test_a_response_may_be_longer_than_csv_allows_by_default(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"id,score,response\na,0,{'x' * 200_000}\n")
    assert len(read_source(path).draws[0].text) == 200_000


def test_decimals_of_parquet_are_scores(tmp_path):
    frame = pl.DataFrame({"id": ["a"], "score": [0.25]})
    path = tmp_path / "t.parquet"
    frame.with_columns(pl.col("score").cast(pl.Decimal(4, 2))).write_parquet(path)
    assert read_source(path).draws[0].score == 0.25


# lm-evaluation-harness


def sample(doc: int, *responses: str, score, kept: str = "none", **more) -> dict:
    options = {"until": ["\n\n"], "do_sample": True, "temperature": 0.7, "max_gen_toks": 64}
    return {
        "doc_id": doc,
        "doc": {"query": f"doc {doc}"},
        "target": "",
        "arguments": {"gen_args_0": {"arg_0": f"Q: doc {doc}\nA:", "arg_1": options}},
        "resps": [list(responses)],
        "filtered_resps": [responses[0]],
        "filter": kept,
        "metrics": ["toxicity"],
        "doc_hash": "0",
        "toxicity": score,
        **more,
    }


def test_samples_of_the_harness(tmp_path):
    name = "samples_toxigen_gen_2025-01-02T03-04-05.678901.jsonl"
    path = jsonl(tmp_path / name, sample(0, "hello", score=0.25), sample(1, "damn", score=True))
    results = {"model_name": "org/model", "config": {"model": "hf"}}
    (tmp_path / "results_2025-01-02T03-04-05.678901.json").write_text(json.dumps(results))
    source = read_source(path)
    assert source.format == "lm-eval"
    assert (source.judge, source.model) == ("toxicity,none", "org/model")
    assert rows(source) == [("0", 1, 0.25, None, "hello"), ("1", 1, 1.0, None, "damn")]
    assert source.draws[0].messages == (("user", "Q: doc 0\nA:"),)
    assert source.contract == {"temperature": 0.7, "max_new_tokens": 64, "stop": ("\n\n",)}


def test_scores_by_response_are_draws_and_a_score_of_the_first_is_one_draw(tmp_path):
    path = jsonl(
        tmp_path / "s.jsonl",
        sample(0, "x", "y", "z", score=[0, 1, None]),
        sample(1, "u", "v", score=0.5),
    )
    source = read_source(path, judge="toxicity")
    assert rows(source) == [
        ("0", 1, 0.0, None, "x"),
        ("0", 2, 1.0, None, "y"),
        ("0", 3, None, "no score in the source", "z"),
        ("1", 1, 0.5, None, "u"),
    ]
    assert "1 responses have no score of their own" in source.notices[0]


def test_a_document_without_the_metric_is_missing_and_not_left_out(tmp_path):
    without = {**sample(1, "u", "v", score=0), "metrics": []}
    del without["toxicity"]
    source = read_source(jsonl(tmp_path / "s.jsonl", sample(0, "x", score=0), without))
    assert rows(source)[1:] == [
        ("1", 1, None, "no score in the source", "u"),
        ("1", 2, None, "no score in the source", "v"),
    ]


@pytest.mark.parametrize(
    "options", [{"temperature": "hot"}, {"top_p": "x", "top_k": [1]}, {"until": 5}]
)
def test_options_that_make_no_sense_are_not_known(tmp_path, options):
    arguments = {"gen_args_0": {"arg_0": "Q", "arg_1": options}}
    path = jsonl(tmp_path / "s.jsonl", sample(0, "x", score=0, arguments=arguments))
    assert read_source(path).contract == {}


@pytest.mark.parametrize("name", [None, ["a"], True])
def test_documents_need_an_id(tmp_path, name):
    path = jsonl(tmp_path / "s.jsonl", {**sample(0, "x", score=0), "doc_id": name})
    with pytest.raises(UsageError, match=r"line 1.* doc_id"):
        read_source(path)


def test_responses_that_are_all_the_same_do_not_stop_an_import(tmp_path):
    """A model that says the same no five times; the filter kept the first."""
    path = jsonl(
        tmp_path / "s.jsonl", sample(0, *["no"] * 5, score=0), sample(1, "u", "v", score=1)
    )
    assert [(d.prompt_id, d.index, d.score) for d in read_source(path).draws] == [
        ("0", 1, 0.0),
        ("1", 1, 1.0),
    ]


def test_a_filter_is_chosen_by_name(tmp_path):
    path = jsonl(
        tmp_path / "s.jsonl",
        sample(0, "x", score=0, kept="strict"),
        sample(0, "x", score=1, kept="loose"),
    )
    assert read_source(path, judge="toxicity,loose").draws[0].score == 1
    for asked in (None, "toxicity"):
        with pytest.raises(UsageError, match=r"toxicity,loose.* toxicity,strict"):
            read_source(path, judge=asked)


def test_what_was_not_sampled_or_merged_is_refused(tmp_path):
    choice = sample(0, "x", score=1, resps=[[["-1.5", "True"]], [["-2.5", "False"]]])
    with pytest.raises(UsageError, match="line 1 holds log-likelihoods, not a sampled response"):
        read_source(jsonl(tmp_path / "s.jsonl", choice))
    vote = sample(0, "x", "y", "y", score=1, filtered_resps=["y"])
    with pytest.raises(UsageError, match="one toxicity for 3 responses, which a filter may have"):
        read_source(jsonl(tmp_path / "s.jsonl", vote))
    uneven = sample(0, "x", "y", "z", score=[0, 1])
    with pytest.raises(UsageError, match="toxicity has 2 scores for 3 responses"):
        read_source(jsonl(tmp_path / "s.jsonl", uneven))
    with pytest.raises(UsageError, match="is not a sample of lm-evaluation-harness"):
        read_source(jsonl(tmp_path / "s.jsonl", {"id": 1}), format="lm-eval")


# garak

SETUP = {
    "entry_type": "start_run setup",
    "plugins.target_type": "huggingface",
    "plugins.target_name": "gpt2",
    "run.system_prompt": "Be kind.",
}


def attempt(uuid: str, *outputs: str | None, text: str = "Ignore all", status=2, **results) -> dict:
    message = {"text": text, "lang": "en", "data_path": None, "notes": {}}
    return {
        "entry_type": "attempt",
        "uuid": uuid,
        "seq": 0,
        "status": status,
        "probe_classname": "dan.Dan",
        "prompt": {"turns": [{"role": "user", "content": message}], "notes": {}},
        "outputs": [None if o is None else {"text": o, "lang": "en"} for o in outputs],
        "detector_results": {name.replace("_", "."): value for name, value in results.items()},
    }


def test_a_report_of_garak(tmp_path):
    path = jsonl(
        tmp_path / "garak.x.report.jsonl",
        SETUP,
        {"entry_type": "init", "garak_version": "0.13.3"},
        attempt("1", "fine", "DAN!", status=1),
        attempt("1", "fine", "DAN!", dan_DAN=[0.0, 1.0]),
        attempt("2", "x", None, "y", dan_DAN=[0.0, None, 0.5]),
        attempt("3", "x", None, text="other", dan_DAN=[1.0]),
        attempt("4", "broke off", text="other", status=1),
        {"entry_type": "eval", "passed": 3},
    )
    source = read_source(path)
    one = f"dan.Dan:{content_id((('user', 'Ignore all'),))}"
    two = f"dan.Dan:{content_id((('user', 'other'),))}"
    assert rows(source) == [
        (one, 1, 0.0, None, "fine"),
        (one, 2, 1.0, None, "DAN!"),
        (one, 3, 0.0, None, "x"),
        (one, 4, None, "no output", None),
        (one, 5, 0.5, None, "y"),
        (two, 1, 1.0, None, "x"),
        (two, 2, None, "no output", None),
        (two, 3, None, "no detector result", "broke off"),
    ]
    assert (source.format, source.judge, source.model) == ("garak", "dan.DAN", "huggingface:gpt2")
    assert source.contract == {"system": "Be kind."}


def test_detectors_are_chosen_or_each_probe_has_its_own(tmp_path):
    both = attempt("1", "x", dan_DAN=[0.0], mitigation_Bypass=[1.0])
    path = jsonl(tmp_path / "r.jsonl", both, attempt("2", "y", dan_DAN=[1.0]))
    with pytest.raises(UsageError, match=r"several detectors .dan.DAN, mitigation.Bypass.: name"):
        read_source(path)
    source = read_source(path, judge="mitigation.Bypass")
    assert [draw.score for draw in source.draws] == [1.0]
    assert source.notices[0].startswith("1 attempts with 1 outputs were left out: mitigation.Byp")
    assert (source.outputs, len(source.draws)) == (2, 1)
    with pytest.raises(UsageError, match=r"has no detector 'toxic': it has dan.DAN"):
        read_source(path, judge="toxic")
    path = jsonl(tmp_path / "r.jsonl", attempt("1", "x", a_A=[0.25]), attempt("2", "y", b_B=[0.75]))
    source = read_source(path)
    assert source.judge == "the detector of each probe"
    assert [draw.score for draw in source.draws] == [0.25, 0.75]


def test_older_reports_have_texts_for_messages(tmp_path):
    old = attempt("1", "x", dan_DAN=[1.0]) | {"prompt": "hi", "outputs": ["x"]}
    source = read_source(jsonl(tmp_path / "r.jsonl", old))
    assert source.draws[0].messages == (("user", "hi"),)
    assert source.draws[0].text == "x"


def test_what_never_came_is_missing_whatever_a_detector_says(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", attempt("1", "x", None, dan_DAN=[0.0, 0.0]))
    (_, there), (_, never) = ((d.score, d) for d in read_source(path).draws)
    assert there.score == 0
    assert (never.score, never.reason) == (None, "no output")
    drawn = attempt("1", "x", dan_DAN=[1.0]) | {"outputs": [{"text": None, "data_path": "a.png"}]}
    (draw,) = read_source(jsonl(tmp_path / "r.jsonl", drawn)).draws
    assert draw.score == 1


def test_prompts_with_other_pictures_are_others(tmp_path):
    one, two = attempt("1", "x", dan_DAN=[1.0]), attempt("2", "y", dan_DAN=[0.0])
    one["prompt"]["turns"][0]["content"]["data_path"] = "1.png"
    two["prompt"]["turns"][0]["content"]["data_path"] = "2.png"
    names = [draw.prompt_id for draw in read_source(jsonl(tmp_path / "r.jsonl", one, two)).draws]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector_results": {"dan.DAN": 0.5}}, "results of dan.DAN are 0.5, not a list"),
        ({"outputs": "hello"}, "outputs are 'hello', not a list"),
        ({"prompt": None}, "prompt is None, neither text nor a conversation"),
        ({"prompt": ["a"]}, "prompt is .'a'., neither text nor a conversation"),
    ],
)
def test_attempts_of_another_kind_are_refused(tmp_path, changes, message):
    path = jsonl(tmp_path / "r.jsonl", attempt("1", "x", dan_DAN=[1.0]) | changes)
    with pytest.raises(UsageError, match=f"line 1: {message}"):
        read_source(path)


def test_damaged_reports_are_named(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", attempt("1", "x", "y", "z", dan_DAN=[1.0, 0.0]))
    with pytest.raises(UsageError, match=r"line 1: dan.DAN has 2 results for 3 outputs"):
        read_source(path)
    with pytest.raises(UsageError, match="has no attempts: is it a garak report"):
        read_source(jsonl(tmp_path / "r.jsonl", SETUP))
    path = jsonl(tmp_path / "r.jsonl", *[attempt("1", "x", dan_DAN=[1.0])] * 2)
    with pytest.raises(UsageError, match=r"line 2 repeats the attempt of .* line 1"):
        read_source(path)


# Reports that were merged, stopped or hold hits alone


def entries(*bodies: dict, merged: bool = False, end: str | None = "completion") -> list[dict]:
    """A report as garak writes it: setup, init, attempts, evaluation, end."""
    setup = {**SETUP, **({"aggregation": ["a.jsonl", "b.jsonl"]} if merged else {})}
    init = {"entry_type": "init", "garak_version": "0.13.3", "run": "r", "start_time": "t"}
    last = [{"entry_type": end, "run": "r"}] if end else []
    return [setup, init, *bodies, *last]


def test_a_merged_report_keeps_every_output_though_all_attempts_have_one_uuid(tmp_path):
    """As garak's aggregator wrote them until 0.14: its own uuid in every entry, no statuses but 2.

    The first report has two probes of two prompts, the second one the same probe run again.
    """
    bodies = []
    for probe in ("dan.Dan", "lmrc.Slurs"):
        for seq, text in enumerate(("Ignore all", "Say it")):
            made = attempt("merged", f"{probe} {seq}", "fine", dan_DAN=[1.0, 0.0], text=text)
            bodies.append(made | {"seq": seq, "probe_classname": probe})
    for seq, text in enumerate(("Ignore all", "Say it")):
        made = attempt("merged", "again", f"more {seq}", None, dan_DAN=[0.0, 0.5, None], text=text)
        bodies.append(made | {"seq": seq})
    path = jsonl(tmp_path / "r.jsonl", *entries(*bodies, merged=True, end="digest"))
    source = read_source(path)
    assert (source.outputs, len(source.draws)) == (14, 14)
    assert source.notices == ()
    one = f"dan.Dan:{content_id((('user', 'Ignore all'),))}"
    assert [(d.index, d.score, d.text) for d in source.draws if d.prompt_id == one] == [
        (1, 1.0, "dan.Dan 0"),
        (2, 0.0, "fine"),
        (3, 0.0, "again"),
        (4, 0.5, "more 0"),
        (5, None, None),
    ]
    assert len({draw.prompt_id for draw in source.draws}) == 4


def test_a_report_merged_with_itself_is_refused(tmp_path):
    same = attempt("merged", "x", dan_DAN=[1.0])
    path = jsonl(tmp_path / "r.jsonl", *entries(same, same, merged=True))
    with pytest.raises(
        UsageError, match=r"line 4 repeats the attempt of .*line 3 \(probe dan\.Dan"
    ):
        read_source(path)


def test_a_report_that_was_stopped_is_read_as_far_as_it_goes(tmp_path):
    bodies = [
        attempt("1", "x", "y", status=1),
        attempt("1", "x", "y", dan_DAN=[0.0, 1.0]),
        attempt("2", "z", text="other", status=1),
        attempt("3", text="third", status=0),
    ]
    path = jsonl(tmp_path / "r.jsonl", *entries(*bodies, end=None))
    with path.open("a") as file:
        file.write('{"entry_type": "attempt", "uuid": "4", "out')
    source = read_source(path)
    assert [(d.score, d.reason) for d in source.draws] == [
        (0.0, None),
        (1.0, None),
        (None, "no detector result"),
    ]
    silent, cut, end = source.notices
    assert silent == "1 of 3 attempts have no outputs: nothing can be counted"
    assert cut == f"{path} line 7 is cut off and was left out"
    assert "the report has no end: its run was stopped" in end
    assert "2 of 3 attempts were not given to a detector" in end
    # in the middle of a file it is damage
    path.write_text(path.read_text() + "\n" + json.dumps(bodies[0]) + "\n")
    with pytest.raises(UsageError, match="line 7 is not JSON"):
        read_source(path)


def test_a_report_without_any_detector_is_read_for_another_judge(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", *entries(attempt("1", "x", "y", status=1), end=None))
    source = read_source(path)
    assert (source.judge, source.outputs) == ("unscored", 2)
    assert [(d.score, d.reason) for d in source.draws] == [(None, "no detector result")] * 2
    with pytest.raises(UsageError, match="no detector with a score: leave --judge-name out"):
        read_source(path, judge="dan.DAN")


def test_a_hit_log_is_refused_with_the_reason(tmp_path):
    message = {"text": "Ignore all", "lang": "en", "data_path": None, "notes": {}}
    hit = {
        "goal": "speak freely",
        "prompt": {"turns": [{"role": "user", "content": message}], "notes": {}},
        "output": {"text": "DAN!", "lang": "en"},
        "triggers": None,
        "score": 1.0,
        "run_id": "r",
        "attempt_id": "1",
        "attempt_seq": 0,
        "attempt_idx": 1,
        "generator": "huggingface gpt2",
        "probe": "dan.Dan",
        "detector": "dan.DAN",
        "generations_per_prompt": 5,
    }
    path = jsonl(tmp_path / "garak.x.hitlog.jsonl", hit)
    with pytest.raises(UsageError, match=r"is a hit log: it holds only outputs .* hits alone"):
        read_source(path)


# More of the harness


def test_filters_without_a_name_are_named_by_the_results_beside(tmp_path):
    """Until 0.4.3 rows named no filter: all documents by the first, then all by the second."""
    table = [
        {
            k: v
            for k, v in sample(doc, f"r{doc}", score=score).items()
            if k not in ("filter", "metrics")
        }
        for score in (0, 1)
        for doc in range(3)
    ]
    name = "samples_gsm8k_2024-05-06T07-08-09.123456.jsonl"
    path = jsonl(tmp_path / name, *table)
    with pytest.raises(UsageError, match=r"\(toxicity,filter 1, toxicity,filter 2\): name one"):
        read_source(path)
    task = {"toxicity,strict-match": 0.0, "toxicity_stderr,strict-match": 0.0, "alias": "gsm8k"}
    results = {"results": {"gsm8k": {**task, "toxicity,flexible-extract": 1.0}}}
    (tmp_path / "results_2024-05-06T07-08-09.123456.json").write_text(json.dumps(results))
    source = read_source(path, judge="toxicity,flexible-extract")
    assert rows(source) == [(str(doc), 1, 1.0, None, f"r{doc}") for doc in range(3)]
    assert {d.score for d in read_source(path, judge="toxicity,strict-match").draws} == {0.0}
    path = jsonl(tmp_path / "uneven.jsonl", *table[:-1])
    with pytest.raises(UsageError, match=r"has document '2' 1 times and others 2 times"):
        read_source(path)


def test_several_requests_of_a_document_are_called_so(tmp_path):
    arguments = {f"gen_args_{i}": {"arg_0": f"Q{i}", "arg_1": {"until": []}} for i in range(2)}
    two = sample(0, "x", score=1, resps=[["x"], ["y", "z"]], arguments=arguments)
    with pytest.raises(UsageError, match="line 1 has 2 requests, which one toxicity scores toget"):
        read_source(jsonl(tmp_path / "s.jsonl", two))
    del two["toxicity"]
    source = read_source(jsonl(tmp_path / "s.jsonl", two | {"metrics": []}))
    assert [(d.prompt_id, d.index, d.messages[0][1], d.text) for d in source.draws] == [
        ("0/1", 1, "Q0", "x"),
        ("0/2", 1, "Q1", "y"),
        ("0/2", 2, "Q1", "z"),
    ]
    assert (source.judge, source.outputs) == ("unscored", 3)


def test_predictions_alone_are_for_another_judge(tmp_path):
    """`--predict_only` scores everything by `bypass`, which is 999."""
    only = [
        sample(doc, f"r{doc}", score=0) | {"metrics": ["bypass"], "bypass": 999} for doc in (0, 1)
    ]
    source = read_source(jsonl(tmp_path / "s.jsonl", *only))
    assert source.judge == "unscored"
    assert [(d.score, d.text) for d in source.draws] == [(None, "r0"), (None, "r1")]


def test_likelihoods_of_whole_texts_are_no_responses(tmp_path):
    """loglikelihood_rolling: one number for a text, which the harness writes as a string."""
    rolling = sample(0, "-1234.5", score=1, arguments={"gen_args_0": {"arg_0": "a whole page"}})
    with pytest.raises(UsageError, match="line 1 holds log-likelihoods"):
        read_source(jsonl(tmp_path / "s.jsonl", rolling))
    number = sample(0, "-1234.5", score=1)  # a model that answered with a number
    assert read_source(jsonl(tmp_path / "s.jsonl", number)).draws[0].text == "-1234.5"


def test_samples_of_the_first_versions_are_one_array(tmp_path):
    """0.4.0 wrote them indented, in a file that ends in .jsonl."""
    path = tmp_path / "out_task.jsonl"
    path.write_text(json.dumps([sample(0, "x", score=1), sample(1, "y", score=0)], indent=2))
    source = read_source(path)
    assert (source.format, [d.score for d in source.draws]) == ("lm-eval", [1.0, 0.0])


def test_packed_sources_are_read(tmp_path):
    import gzip

    path = tmp_path / "garak.x.report.jsonl.gz"
    text = "".join(json.dumps(row) + "\n" for row in entries(attempt("1", "x", dan_DAN=[1.0])))
    path.write_bytes(gzip.compress(text.encode()))
    source = read_source(path)
    assert (source.format, len(source.draws)) == ("garak", 1)
    path = tmp_path / "table.json"
    path.write_text(
        '[{"id": "a", "score": 1, "prompt": [{"role": "user", "content": [{"text": "Q"}]}]}]'
    )
    source = read_source(path)
    assert (source.format, source.draws[0].messages) == ("table", (("user", "Q"),))


# Inspect


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """A log that Inspect itself wrote: two samples, four epochs, three scorers."""
    folder = tmp_path_factory.mktemp("logs")
    script = Path(__file__).with_name("write_inspect_log.py")
    # A process of its own: Inspect warns of its own dependencies.
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return next(folder.glob("*.eval"))


def test_a_log_of_inspect(log):
    source = read_source(log, judge="includes")
    assert (source.format, source.model) == ("inspect", "mockllm/model")
    assert source.contract == {"temperature": 0.7, "max_new_tokens": 16}
    assert sorted((d.prompt_id, d.index) for d in source.draws) == [
        (name, epoch) for name in ("2", "a") for epoch in (1, 2, 3, 4)
    ]
    for draw in source.draws:
        if draw.prompt_id == "a":
            assert draw.score == float("unsafe" in str(draw.text))
    unsafe = [draw for draw in source.draws if "unsafe" in str(draw.text)]
    assert len(unsafe) == 2
    assert sorted(draw.finish_reason for draw in source.draws) == ["length", *["stop"] * 7]
    by_id = {draw.prompt_id: draw.messages for draw in source.draws}
    assert by_id == {"a": (("user", "How?"),), "2": (("system", "Be kind."), ("user", "Why?"))}
    assert source.notices == ()


def test_scorers_of_inspect_are_chosen_and_no_answer_is_missing(log):
    with pytest.raises(UsageError, match="flaky, includes, kinds/rude, kinds/toxic"):
        read_source(log)
    assert {draw.score for draw in read_source(log, judge="kinds/toxic").draws} == {0.25}
    found = {(d.index, d.score, d.reason) for d in read_source(log, judge="flaky").draws}
    assert found == {
        (1, 0.125, None),
        (2, None, "no answer"),
        (3, None, "no score in the source"),
        (4, 0.125, None),
    }


def test_samples_that_failed_are_missing_and_broken_runs_are_noted(log, tmp_path):
    from inspect_ai.log import EvalError, read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    whole.status = "cancelled"
    whole.samples[0].error = EvalError(
        message="out of memory\nmore", traceback="", traceback_ansi=""
    )
    whole.samples[1].scores = None
    for ending in ("eval", "json"):
        path = tmp_path / f"broken.{ending}"
        write_eval_log(whole, str(path))
        source = read_source(path, judge="kinds/toxic")
        reasons = [draw.reason for draw in source.draws if draw.score is None]
        assert sorted(map(str, reasons)) == [
            "no score by kinds/toxic",
            "the sample failed: out of memory",
        ]
        assert "status 'cancelled'" in source.notices[0]


@pytest.mark.parametrize("text", ["", "I cannot help with that."])
def test_what_a_filter_withheld_is_missing_whatever_a_scorer_says_of_it(log, tmp_path, text):
    """An empty reply holds nothing that `includes` looks for: it was counted as safe."""
    from inspect_ai.log import read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    for sample, reason in zip(whole.samples[:3], ["content_filter"] * 2 + ["unknown"], strict=True):
        sample.output.choices[0].stop_reason = reason
        sample.output.completion = text
    path = tmp_path / "filtered.json"
    write_eval_log(whole, str(path))
    draws = read_source(path, judge="includes").draws
    gone = sorted((d.finish_reason, str(d.reason)) for d in draws if d.score is None)
    withheld = "the server's content filter withheld the response"
    unknown = "the response ended with finish_reason 'unknown', whose meaning is not known"
    assert gone == [*[("content_filter", withheld)] * 2, ("incomplete", unknown)]
    result = import_run(path, tmp_path / "run", judge="includes")
    assert result.missing == 3
    assert result.notices == (
        f"2 of 8 draws are missing, whatever their score: {withheld}",
        f"1 of 8 draws are missing, whatever their score: {unknown}",
    )


def test_a_table_may_say_how_responses_ended(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "prompt_id,score,response,finish_reason\n"
        "a,0,fine,stop\na,0,cut,MAX_TOKENS\na,0,,SAFETY\na,1,so,\na,0,,error\n"
    )
    draws = read_source(path).draws
    assert [(d.finish_reason, d.score) for d in draws] == [
        ("stop", 0.0),
        ("length", 0.0),
        ("content_filter", None),
        ("unknown", 1.0),
        ("incomplete", None),
    ]


def test_the_samples_in_the_file_are_read_whatever_its_header_says(log, tmp_path):
    """Older logs do not list the ids of their samples, and have null for epochs."""
    from inspect_ai.log import read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    whole.eval.dataset.sample_ids = None
    whole.eval.config.epochs = None
    expected = rows(read_source(log, judge="includes"))
    for ending in ("eval", "json"):
        path = tmp_path / f"old.{ending}"
        write_eval_log(whole, str(path))
        if ending == "json":
            document = json.loads(path.read_text())
            document["eval"]["dataset"].pop("sample_ids", None)
            document["eval"]["config"]["epochs"] = None
            path.write_text(json.dumps(document))
        source = read_source(path, judge="includes")
        assert sorted(rows(source)) == sorted(expected)
        assert source.outputs == 8


def test_a_log_without_scores_is_read_for_another_judge(log, tmp_path):
    from inspect_ai.log import read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    for sample_ in whole.samples:
        sample_.scores = None
    path = tmp_path / "unscored.eval"
    write_eval_log(whole, str(path))
    source = read_source(path)
    assert source.judge == "unscored"
    assert {(d.score, d.reason) for d in source.draws} == {(None, "no score in the source")}
    assert sum("unsafe" in str(d.text) for d in source.draws) == 2
    with pytest.raises(UsageError, match="no scorer with a score: leave --judge-name out"):
        read_source(path, judge="includes")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("error", r"its run failed \(status 'error'\): no memory left: the 5 samples in it"),
        ("cancelled", r"its run was cancelled \(status 'cancelled'\): the 5 samples in it were"),
        ("started", r"its run was stopped before its end, or is still running \(status 'started'"),
    ],
)
def test_how_a_run_ended_is_said(log, tmp_path, status, words):
    import re

    from inspect_ai.log import EvalError, read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    whole.status = status
    if status == "error":
        whole.error = EvalError(message="no memory\nleft", traceback="", traceback_ansi="")
    whole.results = None
    whole.samples = whole.samples[:5]
    path = tmp_path / "ended.json"
    write_eval_log(whole, str(path))
    ending, missing = read_source(path, judge="includes").notices
    assert re.match(words, ending)
    assert missing.startswith("3 of 8 samples are not in the log")
    whole.samples = []
    write_eval_log(whole, str(path))
    with pytest.raises(UsageError, match=rf"has no samples: {words.split(': the')[0]}"):
        read_source(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    import zipfile

    from tailbound.workflows.import_ import inspect_log

    path = tmp_path / "bomb.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/a_epoch_1.json", b"0" * 2**22)
    monkeypatch.setattr(inspect_log, "MOST_BYTES", 2**21)
    with pytest.raises(UsageError, match=r"bomb\.eval unpacks to 0\.0 GiB, more than"):
        read_source(path)


def test_samples_that_are_not_in_the_log_are_noted(log, tmp_path):
    from inspect_ai.log import read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    whole.samples = [sample for sample in whole.samples if sample.epoch != 4]
    path = tmp_path / "fewer.json"
    write_eval_log(whole, str(path))
    (line,) = read_source(path, judge="includes").notices
    assert line.startswith("2 of 8 samples are not in the log")


@pytest.mark.parametrize(("grade", "score"), [("Yes", 1.0), ("NO", 0.0), ("True", 1.0)])
def test_grades_are_read_as_inspect_reads_them(log, tmp_path, grade, score):
    from inspect_ai.log import read_eval_log, write_eval_log

    whole = read_eval_log(str(log))
    for sample in whole.samples:
        sample.scores["includes"].value = grade
    path = tmp_path / "graded.json"
    write_eval_log(whole, str(path))
    assert {draw.score for draw in read_source(path, judge="includes").draws} == {score}


def test_what_inspect_cannot_read_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "x.eval"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(UsageError, match=r"x\.eval is not a log that Inspect can read") as caught:
        read_source(path)
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[import\]'"):
        read_source(path)


def test_draws_of_different_models_are_never_pooled(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,score,model\na,1,m1\na,0,m1\n")
    from tailbound.workflows.import_ import table

    assert table.read(path, None).model == "m1"
    path.write_text("id,score,model\na,1,m1\na,0,m2\n")
    with pytest.raises(UsageError, match=r"holds draws of 2 models \(m1, m2\)"):
        table.read(path, None)
