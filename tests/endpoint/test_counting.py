"""What a run costs is counted in full, and planned for all of its prompts."""

from __future__ import annotations

import json

import pytest

from endpoint.stub import LONGEST, Faults, Stub
from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError
from tailbound.targets.endpoint import load
from targets.tiny_models import Queue

PROMPT = Prompt(id="p", messages=(("user", "question"),))


def load_stub(stub, **settings):
    options = SamplingOptions(max_new_tokens=30)
    return load("m", options, base_url=stub.url, first_wait=0.01, **settings)


@pytest.mark.parametrize("log_probs", [True, False])
def test_a_server_that_counts_one_response_of_several_is_not_believed(monkeypatch, log_probs):
    """llama.cpp: with n = 8, seven of eight responses would be free, and --max-cost no limit."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    faults = Faults(usage_of_one=True, ignores={"seed"} | ({"logprobs"} - {"logprobs" * log_probs}))
    with Stub(faults) as stub:
        made = load_stub(stub, price_in=0, price_out=1e6, max_cost=5000)
        assert not made.capabilities.usage_of_all
        assert any("counts the tokens of one response" in line for line in made.notices)
        before = made.cost
        requests = [DrawRequest(prompt=PROMPT, stream="s", index=i) for i in range(1, 41)]
        assert len(list(made.sample(Queue(requests), seed=0))) == 40
        assert made.cost - before == 40 * LONGEST
        drawn = made.sample(Queue(requests * 20), seed=0)
        given = []
        with pytest.raises(TargetError, match="--max-cost"):
            given.extend(drawn)
        # what was given is what was paid for
        assert made.cost - before == (40 + len(given)) * LONGEST
        assert made.cost <= 5000
    with Stub(Faults(ignores={"seed"})) as stub:
        honest = load_stub(stub)
        assert honest.capabilities.usage_of_all
        assert honest.capabilities.n


def test_a_plan_counts_the_prompts_of_all_parts(tmp_path, cli, monkeypatch):
    """Those of calibration are short, those of test long, those of train longer."""
    from tailbound.prompts import read_prompts
    from tailbound.workflows.bound import BoundSettings, divide

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    rows = [{"id": f"q{i}", "prompt": f"question {i}"} for i in range(100)]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = divide(read_prompts(path), BoundSettings(budget=10, train_draws=30, test_draws=20))
    names = {part: {prompt.id for prompt in getattr(parts, part)} for part in ("train", "test")}
    for row in rows:
        longer = 400 * (row["id"] in names["train"]) + 100 * (row["id"] in names["test"])
        row["prompt"] += " word" * longer
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Stub(Faults(prompt_words=True)) as stub:
        code, out, err = cli(
            *("bound", path, "--target", "openai:m", "--base-url", stub.url, "--judge", "regex:x"),
            *("--budget", 10, "--train-draws", 30, "--test-draws", 20, "--out", tmp_path / "run"),
            *("--price-in", 1e6, "--price-out", 0, "--dry-run", "--json"),
        )
    assert code == 0, err
    plan = json.loads(out)
    around = min(len(json.dumps(payload).split()) for payload in stub.payloads)
    exact = 30 * 400 * len(names["train"]) + 20 * 100 * len(names["test"])
    exact += around * (
        30 * len(names["train"]) + 10 * len(parts.calibration) + 20 * len(parts.test)
    )
    assert plan["cost"] == pytest.approx(exact, rel=0.1)
    assert plan["cost"] == pytest.approx(sum(s["prompt_tokens"] for s in plan["streams"]), rel=1e-6)
