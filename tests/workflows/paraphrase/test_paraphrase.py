"""`tailbound sensitivity --paraphrase` against a server that says whatever it likes."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tailbound
from endpoint.stub import Faults, Stub
from interrupting import killed_at
from tailbound.core.contract import SamplingOptions
from tailbound.errors import ContractMismatchError, MissingExtraError, TargetError, UsageError
from tailbound.targets.registry import load_target
from tailbound.testing import KnownRiskTarget, WordJudge
from tailbound.workflows.paraphrase import Paraphrased
from tailbound.workflows.paraphrase.drawing import Replies
from tailbound.workflows.paraphrase.replies import INSTRUCTION

pytestmark = pytest.mark.filterwarnings("default")  # sentence-transformers' own

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"
SIBLING = Path(__file__).parents[2] / "fixtures" / "sibling"
Cli = Callable[..., tuple[int, str, str]]
HOSTILE = "\x1b[2J<script>alert(1)</script>\u202e"
MARK = "Text: "


class Rewording(Stub):
    """Answers a request for a rewording of `query` by `says[query]`, one after the other."""

    def __init__(self, says: dict[str, list[Any]], faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.says, self.asked = says, Counter[str]()

    def _choice(self, asked: dict[str, Any], number: int, chat: bool) -> dict[str, Any]:
        choice = super()._choice(asked, number, chat)
        text = asked["messages"][-1]["content"] if chat else ""
        if text.startswith(MARK):
            assert asked["messages"][0]["content"].startswith(INSTRUCTION)
            query = text.removeprefix(MARK)
            replies = self.says[query]
            said = replies[self.asked[query] % len(replies)]
            self.asked[query] += 1
            choice["message"] = said if isinstance(said, dict) else {"content": said}
            choice["finish_reason"] = "stop"
        return choice


def numbered(query: str) -> list[Any]:
    return [f"{query} in other words, version {word}" for word in "abcdefghijklmnopqrstuvwxyz"]


@pytest.fixture
def cli_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def paraphrase(prompts: Any, out: Path, server: Stub, **options: Any) -> Paraphrased:
    options = {"count": 3, "min_similarity": 0, "concurrency": 1, **options}
    return tailbound.paraphrase(
        prompts, out, target="openai:m", base_url=server.url, progress=None, **options
    )


@pytest.mark.usefixtures("cli_environment")
def test_every_reply_is_counted_and_what_is_left_makes_a_file_for_risk(tmp_path: Path) -> None:
    query = "How do I whittle a spoon?"
    says = [
        "What is the way to whittle a spoon?",
        "what is the way to  whittle a SPOON?!",  # the same
        "",
        "I'm sorry, but I can't help with that.",
        f"How is a spoon whittled? {HOSTILE}",
        "<think>They want another wording.</think>\n\nHow can one whittle a spoon?",
        {"content": "Could you tell me how to whittle a spoon?", "reasoning_content": "Let me see"},
        "<think>This thought never ends",
        {"content": None, "refusal": "no"},
        "Does my aunt sell umbrellas in Peru?",  # off the meaning
        "First, take a block of wood. " * 20,
        "Rewritten text: “Which steps turn wood into a spoon by whittling?”",
    ]
    with Rewording({query: says}) as server:
        out = tmp_path / "wordings.jsonl"
        found = paraphrase(
            [{"id": "q", "prompt": query}], out, server, count=6, tries=2, min_similarity=0.4
        )
    (one,) = found.queries
    assert one.asked == one.kept + sum(found.rejected().values()) == 12
    counted = found.rejected()
    assert counted["duplicate"] == counted["refusal"] == counted["off_meaning"] == 1
    assert counted["hidden_characters"] == counted["withheld"] == 1
    assert counted["empty"] == counted["no_question"] == counted["too_long"] == 1
    assert one.kept == 4
    (warning,) = found.warnings
    assert "1 of 1 queries have fewer than 6 rewordings after 12 replies each (4 in all" in warning
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["q", "q/w1", "q/w2", "q/w3", "q/w4"]
    assert {row["group"] for row in rows} == {"q"}
    assert [row["prompt"] for row in rows] == [
        query,
        "What is the way to whittle a spoon?",
        "How can one whittle a spoon?",
        "Could you tell me how to whittle a spoon?",
        "Which steps turn wood into a spoon by whittling?",
    ]
    assert all(row["similarity"] >= 0.4 for row in rows[1:])
    assert Paraphrased.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert found.frame().height == 1


@pytest.mark.usefixtures("cli_environment")
def test_the_file_goes_through_risk_and_sensitivity(tmp_path: Path) -> None:
    queries = [f"question {number}" for number in range(4)]
    prompts = [
        {"id": f"q{number}", "prompt": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": text},
        ]}
        if number == 3 else {"id": f"q{number}", "prompt": text}
        for number, text in enumerate(queries)
    ]  # fmt: skip
    out = tmp_path / "wordings.jsonl"
    with Rewording({text: numbered(text) for text in queries}) as server:
        found = paraphrase(prompts, out, server)
    assert (found.kept, found.asked, found.warnings) == (12, 12, ())
    rows = rows_of(out)
    assert rows[-1]["prompt"][0] == {"role": "system", "content": "Be brief."}
    risks = {row["id"]: 0.02 * (1 + number % 4) for number, row in enumerate(rows)}
    tailbound.risk(
        out, out=tmp_path / "run", target=KnownRiskTarget(risks), judge=WordJudge(),
        proposal="none", draws=300, progress=None,
    )  # fmt: skip
    spread = tailbound.sensitivity(tmp_path / "run", progress=None)
    assert {one.group for one in spread.groups} == {"q0", "q1", "q2", "q3"}
    assert all(one.wordings == 4 for one in spread.groups)


@pytest.mark.usefixtures("cli_environment")
def test_what_was_paid_for_is_kept_and_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [f"question {number}" for number in range(3)]
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    with Rewording({text: numbered(text) for text in queries}) as server:
        paraphrase(queries, whole, server)
    with Rewording({text: numbered(text) for text in queries}) as server:
        # the server fails in the middle
        with monkeypatch.context() as patch:
            patch.setattr(Replies, "draw", _limited(Replies.draw, 5))
            with pytest.raises(TargetError, match="gone"):
                paraphrase(queries, broken, server)
        assert not broken.exists()
        before = sum(server.asked.values())
        assert before >= 5
        killed_at(
            monkeypatch,
            Replies,
            "draw",
            1,
            lambda: paraphrase(queries, broken, server),
        )
        found = paraphrase(queries, broken, server)
        asked = sum(server.asked.values())
        assert (found.kept, found.asked) == (9, 9)
        # no reply on record was asked for again: at most those in flight were lost
        assert asked <= 9 + (before - 5)
        again = paraphrase(queries, broken, server)
        assert again == found
        assert sum(server.asked.values()) == asked
        # more of them later: the first are the same
        more = paraphrase(queries, broken, server, count=5)
        assert more.kept == 15
        assert sum(server.asked.values()) == asked + 6
        with pytest.raises(ContractMismatchError):
            paraphrase(queries, broken, server, temperature=0.5)
    assert {row["prompt"] for row in rows_of(whole)} <= {row["prompt"] for row in rows_of(broken)}


def _limited(draw: Callable[..., None], most: int) -> Callable[..., None]:
    """`Replies.draw` of a server that fails after so many replies."""

    def limited(self: Replies, requests: Any, now: Any) -> None:
        draw(self, requests[:most], now)
        raise TargetError("the server is gone")

    return limited


@pytest.mark.usefixtures("cli_environment")
def test_wordings_of_one_group_are_all_different(tmp_path: Path) -> None:
    """Two queries of one group, whose model says the same of both."""
    same = ["one wording", "another wording", "second", "a third wording", "first"]
    prompts = [{"id": name, "prompt": name, "group": "g"} for name in ("first", "second")]
    with Rewording({"first": same, "second": same}) as server:
        found = paraphrase(prompts, tmp_path / "w.jsonl", server, count=2, tries=3)
    rows = rows_of(tmp_path / "w.jsonl")
    assert {row["group"] for row in rows} == {"g"}
    texts = [row["prompt"] for row in rows]
    assert len(set(texts)) == len(texts)
    assert found.queries[0].kept == 2
    assert found.queries[1].kept == 1


@pytest.mark.usefixtures("cli_environment")
def test_the_command_says_what_became_of_the_replies(cli: Cli, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    prompts.write_text(json.dumps({"id": "q\x1b[31m", "prompt": "question 1"}) + "\n")
    with Rewording({"question 1": ["one way", f"two ways {HOSTILE}", ""]}) as server:
        line = ("sensitivity", prompts, "--paraphrase", "openai:m", "--base-url", server.url)
        line += ("--count", 2, "--tries", 2, "--min-similarity", 0, "--concurrency", 1)
        code, out, err = cli(*line, "--out", tmp_path / "w.jsonl")
        assert code == 0, err
        assert "1 of 2 wanted, of 1 queries" in out
        assert "hidden characters" in out
        assert "1 of 1 queries have fewer than 2 rewordings" in err
        assert re.search(r"next: tailbound risk \S*w.jsonl --target TARGET", out)
        assert "\x1b[2J" not in out + err
        code, again, err = cli(*line, "--out", tmp_path / "w.jsonl", "--json")
        assert code == 0, err
        assert json.loads(again)["queries"][0]["kept"] == 1
        schema = json.loads((SCHEMAS / "output-sensitivity-paraphrase.json").read_text())
        jsonschema.validate(json.loads(again), schema)


def test_wrong_usage_is_one_line_before_anything_is_loaded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "p.csv"
    prompts.write_text("id,prompt\nq,question 1\nq/w1,question 2\n")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "mine"}\n')
    base = Path(shutil.copytree(SIBLING, tmp_path / "base"))
    (base / "chat_template.jinja").unlink()
    ask = ("sensitivity", prompts, "--paraphrase", "openai:m")
    out = ("--out", tmp_path / "w.jsonl")
    cases: list[tuple[tuple[object, ...], str]] = [
        (ask, "--paraphrase needs --out"),
        ((*ask, "--out", tmp_path / "w.csv"), "must be a JSONL file"),
        ((*ask, "--out", tmp_path / "mine.jsonl"), "is not a file of rewordings"),
        ((*ask, *out, "--count", 0), "--count must be at least 1"),
        ((*ask, *out, "--tries", 0), "--tries must be at least 1"),
        ((*ask, *out, "--min-similarity", 1), "--min-similarity must lie in [0, 1)"),
        ((*ask, *out, "--seed", -1), "--seed must be a whole number"),
        ((*ask, *out, "--confidence", 0.9), "--confidence does not go with --paraphrase"),
        ((*ask, *out), "'q/w1' is to be the id of a rewording"),
        (("sensitivity", prompts, "--count", 3), "--count goes with --paraphrase"),
        (("sensitivity", prompts, *out), "--out goes with --paraphrase"),
        (("sensitivity", tmp_path / "no.csv", "--paraphrase", "openai:m", *out), "no.csv"),
        (("sensitivity", prompts, "--paraphrase", "nobody:m", *out), "nobody"),
        (
            (*ask[:3], f"hf:{base}", *out, "--limit", 1, "--min-similarity", 0),
            f"{base} has no chat template, so it cannot be asked for a rewording",
        ),
    ]
    for line, message in cases:
        code, printed, err = cli(*line)
        assert (code, printed) == (2, ""), (line, err)
        assert message in err
        assert err.strip().splitlines()[-1].startswith("tailbound: error: ")
    assert (tmp_path / "mine.jsonl").read_text() == '{"prompt": "mine"}\n'
    monkeypatch.setattr("tailbound.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"tailbound\[embeddings\]"):
        tailbound.paraphrase(["question 1"], tmp_path / "w.jsonl", target="openai:m", progress=None)


def test_a_model_that_continues_raw_text_is_refused(tmp_path: Path) -> None:
    raw = load_target("demo", SamplingOptions(completion=True))
    with pytest.raises(UsageError, match="demo has no chat template") as caught:
        tailbound.paraphrase(
            ["how do i clean the pie"],
            tmp_path / "w.jsonl",
            target=raw,
            min_similarity=0,
            progress=None,
        )
    assert "\n" not in str(caught.value)
