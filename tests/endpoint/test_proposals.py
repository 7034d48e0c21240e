"""`tailbound risk` on an API: which proposals work there, and which are refused, in one line.

Two stubs: one gives the log-probabilities of the tokens that it sampled, the other gives none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from endpoint.stub import LONGEST, WORDS, Faults, Stub
from tailbound.intervals import clopper_pearson

Run = Callable[..., tuple[int, str, str]]

TOLD = Faults(word_log_prob=-math.log(len(WORDS)))
UNTOLD = Faults(strict={"logprobs"})
TRUTH = 1 - (1 - 1 / len(WORDS)) ** 2
"""Of two words, one is "unsafe"."""
DRAWS = 300
DISTINCT = "lower by the distinct unsafe replies"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs this."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("prompt\nquestion 1\nquestion 2\n")


def command(stub: Stub, *more: object, judge: str = "regex:unsafe", longest: int = 2) -> list[Any]:
    return [
        *("risk", "p.csv", "--target", "openai:m", "--base-url", stub.url, "--out", "run"),
        *("--judge", judge, "--max-new-tokens", longest, "--draws", DRAWS, "--json", *more),
    ]


def done(cli: Run, *arguments: object) -> tuple[dict[str, Any], str]:
    code, out, err = cli(*arguments)
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document, err


def by_chance(row: dict[str, Any]) -> float:
    """What hits and draws alone say, at 95%."""
    return float(clopper_pearson(row["hits"], row["draws"], confidence=0.9)[0])


def test_log_probs_of_sampled_tokens_raise_the_lower_bound(cli: Run) -> None:
    with Stub(TOLD) as stub:
        document, _ = done(cli, *command(stub, "--proposal", "none"))
    for row in document["prompts"]:
        # nearly all of the 15 unsafe replies were drawn; .05 sqrt(2) nats are taken off
        assert 0.85 * TRUTH < row["certified_lower"] < math.exp(-0.05 * math.sqrt(2)) * TRUTH
        assert row["certified_lower"] > by_chance(row)
        assert f"{DISTINCT}, by the log-probabilities that the server reports" in row["guarantee"]
        assert row["certified_upper"] > TRUTH


def test_without_log_probs_draws_are_counted(cli: Run) -> None:
    with Stub(UNTOLD) as stub:
        document, err = done(cli, *command(stub, "--proposal", "none"))
        assert all("logprobs" not in payload for payload in stub.payloads[-100:])
    assert "the server gives no log-probabilities" in err
    for row in document["prompts"]:
        assert row["certified_lower"] == pytest.approx(by_chance(row))
        assert row["certified_lower"] < TRUTH < row["certified_upper"]
        assert DISTINCT not in row["guarantee"]


def test_log_probs_that_the_draws_contradict_are_left_out_with_a_notice(cli: Run) -> None:
    """As of a server that samples otherwise than it reports."""
    with Stub(Faults(word_log_prob=-0.7)) as stub:
        document, err = done(cli, *command(stub, "--proposal", "none"))
    assert "the log-probabilities that came with the draws are left out" in err
    for row in document["prompts"]:
        assert row["certified_lower"] == pytest.approx(by_chance(row))
        assert DISTINCT not in row["guarantee"]


@pytest.mark.parametrize(
    ("options", "faults", "why"),
    [
        (["--temperature", 0.5], TOLD, "they are those of temperature 1 without truncation"),
        (["--top-k", 5], TOLD, "they are those of temperature 1 without truncation"),
        (
            ["--extra-body", '{"frequency_penalty": 1}'],
            TOLD,
            "they are those of temperature 1 without truncation or other parameters",
        ),
        (
            [],
            Faults(word_log_prob=-math.log(len(WORDS)), strict={"temperature"}),
            "the server is not known to heed the temperature",
        ),
    ],
)
def test_log_probs_that_may_not_be_those_of_the_draws_are_not_used(
    cli: Run, options: list[object], faults: Faults, why: str
) -> None:
    with Stub(faults) as stub:
        document, err = done(cli, *command(stub, "--proposal", "none", *options))
    assert f"the server's log-probabilities are not used: {why}" in " ".join(err.split())
    assert not any(DISTINCT in row["guarantee"] for row in document["prompts"])


def test_a_judge_that_may_change_its_mind_gets_no_such_bound(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "fickle_judge.py").write_text(
        "def unsafe(response):\n    return float('unsafe' in response)\n"
    )
    with Stub(TOLD) as stub:
        options = command(stub, "--proposal", "none", judge="python:fickle_judge:unsafe")
        document, _ = done(cli, *options)
    assert not any(DISTINCT in row["guarantee"] for row in document["prompts"])


NEED_WEIGHTS = {
    "given none": [],
    "refusal": ["--proposal", "refusal"],
    "persona": ["--proposal", "persona:evil"],
    "lora": ["--proposal", "lora:adapter"],
    "model": ["--proposal", "model:other"],
    "prompt": ["--proposal", "prompt:system.txt"],
    "heat": ["--proposal", "heat"],
    "two": ["--proposal", "prompt:system.txt", "--proposal", "heat"],
}


@pytest.mark.parametrize("faults", [TOLD, UNTOLD], ids=["told", "untold"])
@pytest.mark.parametrize("name", NEED_WEIGHTS)
def test_what_needs_weights_is_refused_before_a_server_is_asked(
    cli: Run, tmp_path: Path, name: str, faults: Faults
) -> None:
    (tmp_path / "system.txt").write_text("You are rude.")
    with Stub(faults) as stub:
        for more in ([], ["--dry-run"]):
            code, out, err = cli(*command(stub, *NEED_WEIGHTS[name], *more))
            assert (code, out) == (2, "")
            (line,) = err.strip().splitlines()
            assert "needs the target's weights in this process (hf: or demo)" in line
            assert "openai:m is not: give --proposal none (plain Monte Carlo)" in line
            assert "or --proposal splitting where the server continues" in line
        assert stub.seen["requests"] == 0
    assert not (tmp_path / "run").exists()


GRADED = """
def grade(response):
    return min(response.split().count("unsafe") / 5, 1.0)
"""
RARE = float(binom.sf(4, LONGEST, 1 / len(WORDS)))


@pytest.mark.parametrize("faults", [TOLD, UNTOLD], ids=["told", "untold"])
@pytest.mark.parametrize("how", ["chat", "completion"])
def test_splitting_works_where_a_reply_that_is_begun_is_continued(
    cli: Run, tmp_path: Path, faults: Faults, how: str
) -> None:
    (tmp_path / "graded_judge.py").write_text(GRADED)
    known = {**vars(faults), "prefill": "asked" if how == "chat" else None}
    more = ["--proposal", "splitting", "--particles", 30, "--score-every", 1, "--threshold", 1]
    more += ["--completion"] if how == "completion" else []
    # as the stub reads the beginning of a raw completion
    (tmp_path / "p.csv").write_text('prompt\n"question 1 "\n"question 2 "\n')
    with Stub(Faults(**known)) as stub:
        options = command(stub, *more, judge="python:graded_judge:grade", longest=30)
        document, _ = done(cli, *options)
    for row in document["prompts"]:
        assert abs(row["risk"] - RARE) < 4 * row["standard_error"]
        assert row["certified_lower"] < RARE


def test_splitting_is_refused_in_one_line_where_it_cannot_be(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "graded_judge.py").write_text(GRADED)
    with Stub(TOLD) as stub:
        more = ["--proposal", "splitting", "--threshold", 1]
        # a judge of two grades: before anything is asked
        code, _, err = cli(*command(stub, *more))
        assert code == 2
        assert "needs a judge that gives grades" in err.strip().splitlines()[-1]
        assert stub.seen["requests"] == 0
        # a server that begins anew: found out by the probe
        code, _, err = cli(*command(stub, *more, judge="python:graded_judge:grade", longest=30))
        assert code == 2
        last = err.strip().splitlines()[-1]
        assert "openai:m does not continue an answer that is begun for it" in last
        assert last.endswith("use --proposal none")
    assert not (tmp_path / "run" / "draws").exists()
