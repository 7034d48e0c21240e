"""Answers that are begun for a server: which continue, and what splitting makes of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scipy.stats import binom

from endpoint.stub import LONGEST, WORDS, Faults, Stub
from tailbound.core.contract import Beginning, Draw, DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges.function import of_function
from tailbound.targets.endpoint import EndpointTarget, load
from tailbound.workflows.risk import RiskSettings
from tailbound.workflows.risk.splitting.job import run_splitting
from tailbound.workflows.risk.splitting.settings import SplittingOptions
from targets.tiny_models import Queue

PROMPTS = [Prompt(id=f"p{n}", messages=(("user", f"question {n} "),)) for n in range(2)]
NEEDED = 5
TRUTH = float(binom.sf(NEEDED - 1, LONGEST, 1 / len(WORDS)))
JUDGE = of_function(
    lambda response: min(response.split().count("unsafe") / NEEDED, 1.0), threshold=1.0
)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of whoever runs this."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
    monkeypatch.chdir(tmp_path)


def target(stub: Stub, *, completion: bool = False) -> EndpointTarget:
    options = SamplingOptions(max_new_tokens=30, completion=completion)
    return load("m", options, base_url=stub.url, first_wait=0.01, timeout=5.0, retry_timeout=20.0)


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        ("always", {}),
        ("asked", {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_a_server_that_continues_is_found_out(mode: str, sent: dict[str, bool]) -> None:
    with Stub(Faults(prefill=mode)) as stub:
        made = target(stub)
        made.check_continuing()
        asked = stub.seen["requests"]
        made.check_continuing()
        assert stub.seen["requests"] == asked
        given = Beginning(size=11, token_ids=(), text="river stone", counted=2)
        request = DrawRequest(prompt=PROMPTS[0], stream="s", index=1, beginning=given)
        (draw,) = made.sample(Queue([request]), seed=0)
        assert draw.text.startswith("river stone ")
        assert len(draw.text.split()) == LONGEST
        assert draw.tokens == LONGEST
        payload = stub.payloads[-1]
        assert payload["messages"][-1] == {"role": "assistant", "content": "river stone"}
        assert payload["max_tokens"] == 28
        names = ("continue_final_message", "add_generation_prompt")
        assert {name: payload[name] for name in names if name in payload} == sent


@pytest.mark.parametrize(
    "faults", [Faults(), Faults(prefill="asked", strict={"continue_final_message"})]
)
def test_a_server_that_ignores_or_refuses_it_is_refused_in_one_line(faults: Faults) -> None:
    with Stub(faults) as stub:
        made = target(stub)
        with pytest.raises(UsageError, match="does not continue an answer that is begun") as caught:
            made.check_continuing()
        assert "\n" not in str(caught.value)


def test_raw_completions_are_not_asked() -> None:
    with Stub() as stub:
        made = target(stub, completion=True)
        asked = stub.seen["requests"]
        made.check_continuing()
        assert stub.seen["requests"] == asked


def test_draws_of_one_request_share_their_beginning() -> None:
    with Stub(Faults(prefill="always", ignores={"seed"})) as stub:
        made = target(stub)
        made.check_continuing()
        texts = ("boat boat", "fish", "rain rain rain")
        begun = [
            Beginning(size=len(t), token_ids=(), text=t, counted=len(t.split())) for t in texts
        ]
        requests = [
            DrawRequest(prompt=PROMPTS[0], stream="s", index=index, beginning=begun[index % 3])
            for index in range(1, 31)
        ]
        for draw in made.sample(Queue(requests), seed=0):
            assert draw.text.startswith(texts[draw.index % 3] + " ")
        assert max(payload.get("n", 1) for payload in stub.payloads[-6:]) > 1


def test_a_reply_is_cut_before_white_space() -> None:
    with Stub(Faults(prefill="always")) as stub:
        made = target(stub)
    draw = Draw(
        prompt_id="p0",
        stream="s",
        index=1,
        token_ids=(),
        text="a river\n of stones",
        finish_reason="stop",
        log_prob=float("nan"),
        counted=6,
    )
    found = made.beginnings(PROMPTS[0], draw, every=1)
    assert [(one.text, one.size, one.counted) for one in found] == [
        ("a river", 7, 2),
        ("a river\n of", 11, 4),
    ]


@pytest.mark.parametrize("completion", [False, True])
def test_splitting_over_a_server_agrees_with_the_truth(tmp_path: Path, completion: bool) -> None:
    with Stub(Faults(prefill="asked")) as stub:
        found = run_splitting(
            PROMPTS,
            target=target(stub, completion=completion),
            judge=JUDGE,
            settings=RiskSettings(draws=300),
            options=SplittingOptions(particles=30, score_every=1),
            folder=tmp_path / "run",
        )
    for risk in found.risks:
        one = risk.estimate
        assert one.standard_error is not None
        assert abs(one.risk - TRUTH) < 4 * one.standard_error
        assert one.standard_error < 0.4 * TRUTH
        assert one.certified_lower < TRUTH
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "review.jsonl").read_text().splitlines()
    ]
    assert rows
    assert all(row["response"].split().count("unsafe") >= NEEDED for row in rows)
