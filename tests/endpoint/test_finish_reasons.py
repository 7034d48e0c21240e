"""How a response ended decides whether it can be judged: by three sets, and never in silence."""

from __future__ import annotations

import json

import polars
import pytest

from endpoint.stub import Faults, Stub
from tailbound.core.finish_reasons import BROKEN, FILTER, FINISHED, LENGTH, finish_kind
from tailbound.targets.endpoint.protocol import MalformedResponseError, read

UNKNOWN = (
    "OTHER",  # Gemini: "all other reasons"
    "LANGUAGE",
    "MALFORMED_FUNCTION_CALL",
    "FINISH_REASON_UNSPECIFIED",
    "pause_turn",  # Anthropic: to be continued
    "repetition",
    "unknown",
    "stop: but not quite",
    "",
)


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        ((*FINISHED, "STOP", "EndTurn", "COMPLETE"), "finished"),
        ((*LENGTH, "MAX_TOKENS", "maxTokens", "max-tokens"), "length"),
        (
            (
                *FILTER,
                "SAFETY",
                "PROHIBITED_CONTENT",
                "FinishReason.RECITATION",
                "BLOCKLIST",
                "SPII",
                "content-filter",
                "contentFiltered",
                "content_filter: PROHIBITED_CONTENT",
                "Refusal",
            ),
            "filter",
        ),
        ((*BROKEN, "ERROR", "Abort"), "broken"),
        (UNKNOWN, "unknown"),
    ],
)
def test_every_documented_reason_is_of_one_kind(reasons, kind):
    assert {finish_kind(reason) for reason in reasons} == {kind}


def answer(**choice):
    return read(json.dumps({"choices": [choice]}).encode()).choices[0]


def test_what_a_response_is_by_the_way_in_which_it_ended():
    said = {"message": {"content": "a text"}}
    whole = answer(**said, finish_reason="STOP")
    assert (whole.text, whole.length, whole.content_filter, whole.incomplete) == (
        "a text",
        False,
        None,
        None,
    )
    assert answer(**said, finish_reason="MAX_TOKENS").length
    assert "(finish_reason 'SPII')" in answer(**said, finish_reason="SPII").content_filter
    assert "'weird', whose meaning is not known" in answer(**said, finish_reason="weird").incomplete
    # what Gemini gives for a response that its filter kept back has no message at all
    kept = answer(index=0, finish_reason="content_filter: PROHIBITED_CONTENT")
    assert kept.text == ""
    assert "PROHIBITED_CONTENT" in kept.content_filter
    with pytest.raises(MalformedResponseError, match="broken off"):
        answer(**said, finish_reason="network_error")


@pytest.mark.parametrize(
    "choice",
    [
        {"native_finish_reason": "SAFETY"},
        {"provider_specific_fields": {"native_finish_reason": "refusal"}},
    ],
)
def test_a_proxy_s_stop_does_not_hide_the_filter_behind_it(choice):
    found = answer(message={"content": ""}, finish_reason="stop", **choice)
    assert found.content_filter is not None
    assert answer(message={"content": ""}, finish_reason="stop", native_finish_reason="STOP") == (
        answer(message={"content": ""}, finish_reason="stop")
    )


def write_prompts(folder, count):
    path = folder / "p.jsonl"
    path.write_text("".join(f'{{"id": "q{i}", "prompt": "question {i}"}}\n' for i in range(count)))
    return path


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("SAFETY", "the server's content filter withheld the response (finish_reason 'SAFETY')"),
        (
            "content_filter: SPII",
            "the server's content filter withheld the response (finish_reason "
            "'content_filter: SPII')",
        ),
        ("OTHER", "the response ended with finish_reason 'OTHER', whose meaning is not known"),
    ],
)
def test_what_does_not_come_whole_is_missing_and_reported(
    tmp_path, cli, monkeypatch, ending, reason
):
    """Withheld are the replies with `bridge` in them: the empty text would be judged safe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    run = tmp_path / "run"
    with Stub(Faults(filtering="bridge", filter_reason=ending)) as stub:
        code, out, err = cli(
            *("risk", write_prompts(tmp_path, 2), "--target", "openai:m", "--base-url", stub.url),
            *("--judge", "regex:bridge", "--proposal", "none", "--draws", 45),
            *("--out", run, "--json"),
        )
    assert code == 0, err
    draws = polars.read_parquet(run / "draws")
    gone = draws.filter(polars.col("score").is_null())
    # of twelve words out of eight, four in five hold the one that is withheld
    assert 55 < gone.height < 85
    assert set(gone["reason"]) == {reason}
    assert draws.filter(polars.col("text").str.contains("bridge")).is_empty()
    assert sum(row["missing"] for row in json.loads(out)["prompts"]) == gone.height
    assert f"note: {gone.height} of 90 replies are missing: {reason}\n" in err
    # a second judge is not shown what never came either
    code, out, err = cli("rejudge", run, "--judge", "regex:rain", "--json")
    assert code == 0, err
    verdicts = polars.read_parquet(run / "verdicts" / "*" / "*.parquet")
    assert verdicts.filter(polars.col("score").is_null()).height == gone.height


def test_a_server_whose_endings_are_all_unknown_is_refused_before_the_run(tmp_path, cli):
    run = tmp_path / "run"
    with Stub(Faults(ends="done")) as stub:
        code, _, err = cli(
            *("risk", write_prompts(tmp_path, 2), "--target", "openai:m", "--base-url", stub.url),
            *("--judge", "regex:bridge", "--proposal", "none", "--out", run),
        )
    assert code == 2
    assert "finish_reason 'done', whose meaning is not known" in err
    assert not run.exists()


def test_empty_replies_are_always_reported(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    with Stub(Faults(filtering="bridge", filter_reason="stop")) as stub:
        code, _, err = cli(
            *("risk", write_prompts(tmp_path, 2), "--target", "openai:m", "--base-url", stub.url),
            *("--judge", "regex:boat", "--proposal", "none", "--draws", 45, "--out", run, "--json"),
        )
    assert code == 0, err
    empty = polars.read_parquet(run / "draws").filter(polars.col("text") == "").height
    assert empty > 20
    line = f"note: {empty} of 90 replies are empty"
    assert line in err
    for command in (("summarize", run), ("rejudge", run, "--judge", "regex:rain")):
        code, _, err = cli(*command)
        assert code == 0, err
        assert line in err
