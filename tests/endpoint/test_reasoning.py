"""Servers of reasoning models, as their documentation says that they answer."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

import polars
import pytest
from aiohttp import web

from endpoint.stub import Faults, Stub
from endpoint.test_endpoint import PROMPTS, prompt_file, requests, target
from tailbound.core.contract import Draw, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange
from tailbound.judges.registry import load_judge
from tailbound.targets.endpoint import EndpointTarget, probe
from tailbound.targets.endpoint.extra_body import canonical
from targets.tiny_models import Queue

THOUGHT = 6
"""Words of the stub's responses that are its thought; the others are the reply."""


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OPENAI")]:
        monkeypatch.delenv(name)


class Thinker(Stub):
    """The first `THOUGHT` words of every response are thought. Where they stand:

    `reasoning_content`, `reasoning`, `parts` (Mistral); `inline`; `template`, where the response
    begins inside the thought; `hidden`, where they are counted in `usage` alone (OpenAI).
    """

    def __init__(self, where: str, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.where = where

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = super()._choice(asked, number, chat)
        words = choice["message"]["content"].split(" ")
        thought, said = " ".join(words[:THOUGHT]), " ".join(words[THOUGHT:])
        closed = len(words) > THOUGHT
        message: dict[str, Any] = {"role": "assistant", "content": said or None}
        if self.where in ("inline", "template"):
            begun = "<think>\n" if self.where == "inline" else ""
            message["content"] = begun + thought + (f"\n</think>\n\n{said}" if closed else "")
        elif self.where == "parts":
            text = [{"type": "text", "text": said}] if said else []
            inner = [{"type": "text", "text": thought}]
            message["content"] = [{"type": "thinking", "thinking": inner}, *text]
        elif self.where != "hidden":
            message[self.where] = thought
        return choice | {"message": message}

    def _document(self, payload: dict[str, Any], *, chat: bool) -> dict[str, Any]:
        document = super()._document(payload, chat=chat)
        if self.where == "hidden":
            tokens = min(THOUGHT, document["usage"]["completion_tokens"])
            document["usage"]["completion_tokens_details"] = {"reasoning_tokens": tokens}
        return document


WHERE = ["reasoning_content", "reasoning", "parts", "inline", "template", "hidden"]


def draws(made: EndpointTarget, each: int = 6) -> list[Draw]:
    return list(made.sample(Queue(requests(each)), seed=0))


@pytest.mark.parametrize("where", WHERE)
def test_the_reply_alone_is_judged_wherever_the_thought_stands(where):
    with Stub() as plain, Thinker(where) as stub:
        options = SamplingOptions(max_new_tokens=30)
        whole = {(d.prompt_id, d.index): d.text for d in draws(target(plain, options))}
        made = target(stub, options)
        assert made.contract.thinking == "drop"
        assert any("its replies alone are judged" in line for line in made.notices)
        for draw in draws(made):
            said = whole[draw.prompt_id, draw.index].split(" ")[THOUGHT:]
            assert draw.text == " ".join(said)
            assert (draw.finish_reason, draw.missing) == ("stop", None)


@pytest.mark.parametrize("where", WHERE)
def test_a_thought_cut_at_the_limit_is_missing(where):
    with Thinker(where) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30))
        made._options = SamplingOptions(max_new_tokens=5)  # harder prompts than the probe's
        made._phrasing = type(made._phrasing)("m", made._options, made._phrasing.dialect)
        for draw in draws(made):
            assert draw.finish_reason == "incomplete"
            assert draw.text == ""
            assert draw.missing is not None
            assert "no reply within 5 tokens" in draw.missing


@pytest.mark.parametrize("where", ["reasoning", "inline", "template"])
def test_thoughts_are_judged_where_that_is_asked_for(where):
    with Thinker(where) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30, thinking="judge"))
        assert made.contract.thinking == "judge"
        for draw in draws(made, 2):
            assert len([w for w in draw.text.split() if w.isalpha()]) == 12
            assert "</think>" in draw.text


def test_a_thought_that_nobody_sees_cannot_be_judged():
    with Thinker("hidden") as stub, pytest.raises(UsageError, match="does not show what"):
        target(stub, SamplingOptions(max_new_tokens=30, thinking="judge"))


def test_the_probe_asks_first_as_the_run_will():
    options = SamplingOptions(
        max_new_tokens=300, temperature=0.7, stop=("xyz",), extra_body='{"reasoning_effort":"low"}'
    )
    with Thinker("hidden") as stub:
        made = target(stub, options)
        first = stub.payloads[0]
        assert (first["max_tokens"], first["temperature"]) == (300, 0.7)
        assert first["stop"] == ["xyz"]
        assert {p["reasoning_effort"] for p in stub.payloads} == {"low"}
        # a few tokens of a hidden thought show nothing: all of it is asked for
        assert {p["max_tokens"] for p in stub.payloads} <= {300, 1, 4}
        assert made.capabilities.thinking == "hidden"
        assert made.contract.extra_body == '{"reasoning_effort":"low"}'
        list(made.sample(Queue(requests(1)), seed=0))
        assert stub.payloads[-1]["reasoning_effort"] == "low"


def test_a_model_that_does_not_think_is_asked_one_long_question():
    with Stub() as stub:
        made = target(stub, SamplingOptions(max_new_tokens=300))
        assert sum(p["max_tokens"] == 300 for p in stub.payloads) == 1
        assert made.capabilities.thinking is None
        assert not any("think" in line for line in made.notices)


def test_too_little_room_for_a_reply_is_said_beforehand():
    with Thinker("reasoning") as stub:
        made = target(stub, SamplingOptions(max_new_tokens=5))
        assert made.capabilities.unfinished == made.capabilities.trials == 4
        assert any("4 of 4 trial responses held no reply" in line for line in made.notices)
    with Thinker("hidden") as stub, pytest.raises(UsageError, match="within 5 tokens"):
        target(stub, SamplingOptions(max_new_tokens=5))


def test_a_thought_that_the_probe_did_not_know_of_is_never_taken_for_a_reply():
    """A template that opens the thought, and trials too short to show that it does."""
    with Thinker("template") as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30))
        assert (made.capabilities.thinking, made.capabilities.opening) == ("template", "<think>")
        made.capabilities = replace(made.capabilities, thinking=None, opening=None)
        for draw in draws(made):
            assert draw.finish_reason == "incomplete"
            assert "'</think>' without the tag that opens" in (draw.missing or "")


def test_a_template_that_opens_the_thought_is_found_where_all_trials_are_cut(monkeypatch):
    """As vLLM and llama.cpp serve such models without a parser: no tag is in a cut response."""
    monkeypatch.setattr(probe, "TOKENS", 4)
    with Thinker("template") as stub:
        made = target(stub, SamplingOptions(max_new_tokens=5))
        assert (made.capabilities.thinking, made.capabilities.opening) == ("template", "<think>")
        assert made.capabilities.unfinished == made.capabilities.trials == 4
        assert {d.finish_reason for d in draws(made)} == {"incomplete"}
    with Stub() as stub:
        made = target(stub, SamplingOptions(max_new_tokens=5))
        assert made.capabilities.thinking is None
        assert {d.finish_reason for d in draws(made)} == {"length"}


class Strict(Thinker):
    """Refuses parameters in the words of OpenAI's reasoning models."""

    def __init__(self, refuses: set[str], only: dict[str, float] | None = None) -> None:
        super().__init__("hidden")
        self.refuses = refuses
        self.only = only or {}

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        payload = await request.json()
        for name in payload:
            use = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            if name in self.refuses:
                said = f"Unsupported parameter: '{name}' is not supported with this model.{use}"
                error = {"message": said, "param": name, "code": "unsupported_parameter"}
                return web.json_response({"error": error}, status=400)
            if name in self.only and payload[name] != self.only[name]:
                said = f"Unsupported value: '{name}' does not support {payload[name]} with this mo"
                error = {"message": said, "param": name, "code": "unsupported_value"}
                return web.json_response({"error": error}, status=400)
        if payload.get("max_completion_tokens", 99) < THOUGHT:
            said = "Could not finish the message because max_tokens or model output limit was reach"
            error = {"message": f"{said}ed.", "type": "invalid_request_error", "param": None}
            return web.json_response({"error": error}, status=400)
        return await super()._respond(request)


ALL = {"max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logprobs"}


def test_parameters_refused_by_name_are_left_out_where_they_change_nothing():
    with Strict(ALL | {"stop", "seed"}) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30, stop=("river",)))
        found = draws(made)
        last = stub.payloads[-1]
        assert not last.keys() & (ALL | {"stop", "seed"})
        assert last["max_completion_tokens"] == 30
        assert {*made.capabilities.refused} >= {"temperature", "top_p", "top_k", "seed"}
        assert any("takes no temperature and no top_p" in line for line in made.notices)
        assert not any("river" in draw.text for draw in found)  # cut here
        assert {d.missing is None for d in found} <= {True, False}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": 0.7}, r"refuses temperature 0.7 .* use --temperature 1"),
        ({"top_p": 0.9}, r"refuses top_p 0.9 .* use --top-p 1"),
        ({"top_k": 5}, r"refuses top_k 5 .* remove --top-k"),
    ],
)
def test_what_was_asked_for_and_is_refused_is_said_in_one_line(options, named):
    with Strict(ALL) as stub, pytest.raises(UsageError, match=named) as caught:
        target(stub, SamplingOptions(max_new_tokens=30, **options))
    assert "\n" not in str(caught.value)


def test_a_value_that_the_server_alone_takes_is_kept():
    with Strict({"max_tokens"}, only={"temperature": 1.0}) as stub:
        target(stub, SamplingOptions(max_new_tokens=30))
        assert stub.payloads[-1]["temperature"] == 1.0
    with (
        Strict({"max_tokens"}, only={"temperature": 1.0}) as stub,
        pytest.raises(UsageError, match=r"refuses temperature 0\.2"),
    ):
        target(stub, SamplingOptions(max_new_tokens=30, temperature=0.2))


def test_a_refusal_for_a_thought_that_reached_the_limit_is_a_missing_draw():
    with Strict(ALL) as stub:
        made = target(stub, SamplingOptions(max_new_tokens=30))
        made._options = SamplingOptions(max_new_tokens=5)
        made._phrasing = type(made._phrasing)("m", made._options, made._phrasing.dialect)
        found = draws(made, 1)
        assert len(found) == len(PROMPTS)
        assert {draw.finish_reason for draw in found} == {"incomplete"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{", "not a valid JSON object"),
        ("[1]", "not a JSON object"),
        ('{"temperature": 2}', "--temperature sets it"),
        ('{"stream": true}', "tailbound sets it"),
        ('{"a": NaN}', "not a valid JSON object"),
    ],
)
def test_an_extra_body_that_cannot_be(given, message, tmp_path, cli):
    args = ["--target", "openai:m", "--base-url", "http://127.0.0.1:1/v1", "--proposal", "none"]
    code, _, err = cli(
        *("risk", str(prompt_file(tmp_path)), *args, "--judge", "regex:a"),
        *("--extra-body", given, "--out", str(tmp_path / "run")),
    )
    assert code == 2
    assert message in " ".join(err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "given",
    [
        '{"api_key": "hunter2"}',
        '{"extra_headers": {"X": "hunter2"}}',
        '{"provider": [{"Authorization": "hunter2"}]}',
        '{"access_token": "hunter2"}',
    ],
)
def test_an_extra_body_with_a_secret_is_refused_and_the_secret_not_repeated(given, tmp_path, cli):
    code, out, err = cli(
        *("risk", str(prompt_file(tmp_path)), "--target", "openai:m", "--proposal", "none"),
        *("--base-url", "http://127.0.0.1:1/v1", "--judge", "regex:a"),
        *("--extra-body", given, "--out", str(tmp_path / "run")),
    )
    assert code == 2
    assert "kept in run.yaml" in " ".join(err.split())
    assert "hunter2" not in out + err
    assert not (tmp_path / "run").exists()


def test_names_of_tokens_that_are_no_secrets_pass():
    given = {"min_tokens": 3, "skip_special_tokens": False, "reasoning": {"max_tokens": 9}}
    assert json.loads(canonical(given) or "") == given


def test_a_run_records_what_it_asks_for_and_keeps_to_it(tmp_path, cli):
    with Thinker("reasoning_content") as stub:
        command = [
            *("risk", str(prompt_file(tmp_path)), "--target", "openai:m", "--base-url", stub.url),
            *("--proposal", "none", "--judge", "regex:unsafe", "--draws", "20", "--json"),
            *("--max-new-tokens", "9", "--out", str(tmp_path / "run")),
        ]
        extra = ["--extra-body", '{"chat_template_kwargs": {"enable_thinking": true}}']
        code, said, err = cli(*command, *extra)
        assert code == 0, err
        kept = json.loads(said)["contract"]
        assert kept["thinking"] == "drop"
        assert json.loads(kept["extra_body"]) == {"chat_template_kwargs": {"enable_thinking": True}}
        asked = len(stub.payloads)
        for other in (["--thinking", "judge", *extra], []):
            assert cli(*command, *other)[0] == 2
            assert len(stub.payloads) == asked  # before anything is paid for
        rows = polars.read_parquet(tmp_path / "run" / "draws")
        assert set(rows["text"].str.count_matches(" ")) == {2}  # three words are left of nine


class Rater(Thinker):
    """Thinks of another mark than it gives."""

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = Stub._choice(self, asked, number, chat)
        if "How bad" not in json.dumps(asked["messages"]):
            choice["message"] = {"content": "", "reasoning_content": choice["message"]["content"]}
            return choice
        thought = "level: 9\n" * 3
        limit = asked.get("max_tokens", 0)
        message = {"content": "level: 2" if limit > 1000 else "", "reasoning_content": thought}
        if self.where == "inline":
            reply = "</think>\nlevel: 2" if limit > 1000 else ""
            message = {"content": f"<think>{thought}{reply}"}
        finish = "stop" if limit > 1000 else "length"
        return choice | {"message": message, "finish_reason": finish}


RUBRIC = """
template: "How bad is it? {response}"
fields: {level: {low: 0, high: 10}}
score: level / 10
"""


@pytest.mark.parametrize("where", ["field", "inline"])
def test_a_judge_s_thought_is_not_its_verdict_and_it_gets_room_to_think(where, tmp_path):
    (tmp_path / "bad.yaml").write_text(RUBRIC)
    shown = [Exchange(Prompt(id="a", messages=(("user", "x"),)), f"reply {n}") for n in range(3)]
    with Rater(where) as stub:
        spec = f"rubric:{tmp_path}/bad.yaml?judge_target=openai:m&engine.base_url={stub.url}"
        judge = load_judge(spec)
        assert [verdict.score for verdict in judge.judge(shown)] == [0.2] * 3
        assert stub.payloads[-1]["max_tokens"] == 4096
        short = load_judge(f"{spec}&max_new_tokens=200&tries=1")
        for verdict in short.judge(shown):
            assert verdict.score is None
            assert "no reply within 200 tokens" in (verdict.reason or "")
        extra = load_judge(spec + '&engine.extra_body={"reasoning_effort":"low"}')
        extra.judge(shown)
        assert stub.payloads[-1]["reasoning_effort"] == "low"
        assert extra.id != judge.id
