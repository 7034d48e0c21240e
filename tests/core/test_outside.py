"""What others send can be stored, or says why not; no batch is lost to one draw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.writer import make_draw, make_verdict, open_ledger
from tailbound.audit import Audit
from tailbound.core.contract import Draw, SamplingContract, SamplingOptions, Verdict
from tailbound.core.outside import OutsideError, clean_text, count, finite, parse_json, shown
from tailbound.core.prompt import Prompt, content_id
from tailbound.errors import TargetError
from tailbound.judges import Exchange
from tailbound.judges.verdicts import scored
from tailbound.prompts import read_prompts
from tailbound.runs import read
from tailbound.targets.base import DrawSource
from tailbound.targets.endpoint.protocol import MalformedResponseError
from tailbound.targets.endpoint.protocol import read as read_answer
from tailbound.workflows.rejudge.verdicts import VerdictWriter, read_verdicts

HALF = "\ud83d"


def answer(text: str, **more: Any) -> bytes:
    choice = {"message": {"content": text}, "finish_reason": "stop", **more}
    return json.dumps({"choices": [choice], "usage": more.get("usage", {})}).encode()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "Expecting value at column 1"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("[" * 10**6, "nested too deeply"),
        ("9" * 5000, "a number is too long"),
        ("[" + "1," * 100 + "1]", "longer than 200 bytes"),
    ],
)
def test_json_that_is_none_says_why(source, reason):
    with pytest.raises(OutsideError, match=reason):
        parse_json(source, most=200 if "longer" in reason else None)


def test_json_with_bytes_that_are_no_text_is_read():
    assert parse_json(b'\xef\xbb\xbf{"a": "caf\xe9", "n": [[1]]}') == {"a": "caf\ufffd", "n": [[1]]}
    assert parse_json("[" * 100 + "]" * 100) is not None


@given(st.text(st.characters(), max_size=20))  # halves of characters among them
def test_clean_text_can_be_written_and_says_what_it_said(text):
    clean = clean_text(text)
    clean.encode()
    assert clean_text(clean) == clean
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert clean == text


def test_halves_that_belong_together_are_joined_and_nul_is_kept():
    assert clean_text(f"a{HALF}b\x00") == "a\ufffdb\x00"
    assert clean_text(HALF + "\ude00") == "😀"


@pytest.mark.parametrize("value", ["1", True, None, math.nan, math.inf, 10**400, [1], "1e999"])
def test_numbers_that_are_none(value):
    assert finite(value) is None
    assert count(value) is None


def test_counts_are_whole_and_bounded():
    assert [count(v) for v in (0, 3.0, 2**31 - 1, 2**31, -1, 1.5)] == [0, 3, 2**31 - 1, *[None] * 3]
    assert shown(10**5000) == "<int>"


@pytest.mark.parametrize(
    "value",
    [10**5000, f"0.5{HALF}", math.inf, [0.5], np.array([1.0, 2.0])],
    ids=["huge", "half", "infinite", "list", "array"],
)
def test_scores_that_are_none_are_missing_with_a_reason_that_can_be_stored(value):
    for verdict in (scored(value), scored(Verdict(value))):
        assert verdict.score is None
        assert verdict.reason is not None
        verdict.reason.encode()


def test_scores_of_any_object():
    class Odd:
        def __float__(self) -> float:
            raise RuntimeError("no")

        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert scored(Odd()).reason == "judge failed: the score is <Odd>, not a number in [0, 1]"


@pytest.mark.parametrize(
    ("body", "text", "tokens"),
    [
        (answer(f"half {HALF}"), "half \ufffd", None),
        (answer("x", usage={"completion_tokens": 10**300}), "x", None),
        (answer("x", usage={"completion_tokens": True}), "x", None),
        (answer("x", usage={"completion_tokens": 7.0}), "x", 7),
        (answer("x", logprobs={"content": [{"token": "x", "logprob": -(10**400)}]}), "x", 1),
        (answer("x").replace(b'"x"', b'"caf\xe9"'), "caf\ufffd", None),
    ],
)
def test_what_servers_say_can_be_stored(body, text, tokens):
    choice = read_answer(body).choices[0]
    assert (choice.text, choice.tokens, choice.log_prob) == (text, tokens, None)


def test_an_answer_nested_too_deeply_is_none():
    calls = b'{"choices": [{"message": {"tool_calls": [' + b"[" * 900 + b"]" * 900 + b"]}, "
    with pytest.raises(MalformedResponseError, match="nested too deeply"):
        read_answer(calls + b'"finish_reason": "stop"}]}')


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"text": f"half {HALF}"}, "its text is"),
        ({"text": 5}, "its text is 5"),
        ({"token_ids": (2**40,)}, "its token ids are"),
        ({"token_ids": (), "counted": 2**40}, "its number of tokens is"),
        ({"token_ids": (), "counted": -1}, "its number of tokens is -1"),
        ({"log_prob": "low"}, "its log-probability is 'low'"),
        ({"finish_reason": HALF}, "its finish reason is"),
    ],
)
def test_a_draw_that_cannot_be_stored_is_missing_and_its_batch_is_kept(tmp_path, change, problem):
    with open_ledger(tmp_path) as ledger:
        ledger.append(make_draw(0, 1), Verdict(1.0), "fixed")
        bad = Draw(**{**{f: getattr(make_draw(0, 2), f) for f in Draw.__slots__}, **change})
        assert ledger.append(bad, Verdict(0.0), "fixed").missing
        assert ledger.append(make_draw(0, 3), make_verdict(0, 3), "fixed") == make_verdict(0, 3)
    rows = read(tmp_path).sort("index")
    assert rows["index"].to_list() == [1, 2, 3]
    assert rows["score"][0] == 1.0
    assert (rows["verdict"][1], rows["text"][1], rows["score"][1]) == ("missing", "", None)
    assert rows["reason"][1].startswith(f"the draw cannot be stored: {problem}")


def test_verdicts_that_cannot_be_stored_are_missing(tmp_path):
    with open_ledger(tmp_path / "run") as ledger:
        for number, verdict in enumerate([Verdict(2.0), Verdict(math.nan), Verdict(None, HALF)], 1):
            ledger.append(make_draw(0, number), verdict, "fixed")
    assert read(tmp_path / "run")["verdict"].to_list() == ["missing"] * 3
    home = tmp_path / "run" / "verdicts" / "again"
    with VerdictWriter(home, judge="j", judge_id="j") as writer:
        writer.append(("s", "p", 1), Verdict(None, HALF))
        writer.append(("s", "p", 2), Verdict(0.5))
    assert read_verdicts(home)["score"].to_list() == [None, 0.5]


class Odd:
    """A target of somebody else's making; every third draw is `odd`."""

    batch_size = 4
    contract = SamplingContract.resolved(
        SamplingOptions(), target="odd", revision=None, precision="none"
    )
    reproducible = "distribution"

    def __init__(self, odd: dict[str, Any]) -> None:
        self.odd = odd

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> Any:
        return np.ones(len(prompts), dtype=np.int64)

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        while requests := source.take(4, wait=True):
            for request in requests:
                values: dict[str, Any] = {
                    "prompt_id": request.prompt.id,
                    "stream": request.stream,
                    "index": request.index,
                    "token_ids": (1,),
                    "text": "fine",
                    "finish_reason": "stop",
                    "log_prob": -1.0,
                }
                yield Draw(**{**values, **(self.odd if request.index % 3 == 0 else {})})


class Seen:
    """A judge that finds nothing unsafe and remembers what it was shown."""

    id, threshold = "seen", 0.5

    def __init__(self) -> None:
        self.texts: list[object] = []

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        self.texts += [exchange.response for exchange in exchanges]
        return [Verdict(0.0)] * len(exchanges)


def audited(folder: Path, odd: dict[str, Any]) -> tuple[Any, Any, Seen]:
    prompts = [Prompt(id="p", messages=(("user", "x"),))]
    with open_ledger(folder) as ledger:
        judge = Seen()
        audit = Audit(Odd(odd), judge, ledger, threshold=0.5, seed=0)
        following = audit.follow(prompts, stream="s")
        first = following(np.array([0]), np.array([5]))
    return first, read(folder).sort("index"), judge


def test_halves_of_characters_are_replaced_before_they_are_judged(tmp_path):
    first, rows, judge = audited(tmp_path, {"text": f"half {HALF}"})
    assert first.tolist() == [0]
    assert rows["text"].to_list() == ["fine", "fine", "half \ufffd", "fine", "fine"]
    assert "half \ufffd" in judge.texts


def test_the_run_and_its_record_agree_on_what_is_missing(tmp_path):
    first, rows, _ = audited(tmp_path, {"log_prob": "low"})
    assert first.tolist() == [3]  # missing is never safe, now as after a resume
    assert rows.filter(rows["index"] == 3)["verdict"].to_list() == ["missing"]


def test_a_draw_that_nobody_asked_for_is_an_error_of_the_target(tmp_path):
    with pytest.raises(TargetError, match="a draw of prompt 'other', which it was not asked for"):
        audited(tmp_path, {"prompt_id": "other"})
    assert len(read(tmp_path)) >= 2


def test_imports_of_halves_of_characters(tmp_path, cli):
    rows = [
        {"id": "a", "score": 0, "prompt": f"p{HALF}", "response": f"r{HALF}", "model": f"m{HALF}"},
        {"id": "b", "score": None, "reason": HALF, "prompt": "p", "model": f"m{HALF}"},
    ]
    source = tmp_path / "t.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = cli("import", source, "--out", tmp_path / "run")
    assert (code, "error" in err) == (0, False)
    assert read(tmp_path / "run")["text"].to_list() == ["r\ufffd", ""]
    from tailbound.runs.prompts import load_prompts

    assert load_prompts(tmp_path / "run")["a"].text == "p\ufffd"


def test_prompts_by_messages_are_read_through_the_same_door(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"prompt": "😀"}) + "\n")
    assert read_prompts(file)[0].id == content_id((("user", "😀"),))
