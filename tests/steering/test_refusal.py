"""Refusal directions found on the demo model and on random ones, and what the search reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.demo.steering import demo_refusal_prompts
from tailbound.demo.world import forbidden_prompts
from tailbound.errors import UsageError
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.steering import Ablate, Add, find_refusal_direction, refusal
from tailbound.steering.reading import encode, mean_stream, next_token_log_probs, stream_at_end
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.decoding.proposals import ProposalModel, steered
from tailbound.targets.registry import load_target
from targets.tiny_models import local_model, network, prompt


@pytest.fixture(scope="module")
def demo() -> LocalModel:
    target = load_target("demo", SamplingOptions(max_new_tokens=32))
    assert isinstance(target, LocalModel)
    return target


def rate(
    target: LocalModel, intervention: Ablate | Add | None, judge: str, prompts: Sequence[Prompt]
) -> float:
    """Share of replies that the judge finds unsafe, 16 per prompt; all steered, or none."""
    variants = [] if intervention is None else [steered(target, intervention, 1.0, name="on")]
    requests = [
        DrawRequest(prompt=one, stream="rate", index=i, segments=((len(variants), 32),))
        for one in prompts
        for i in range(1, 17)
    ]
    by_id = {one.id: one for one in prompts}
    draws = list(ProposalModel(target, variants).draw(requests, seed=0))
    verdicts = load_judge(judge).judge([Exchange(by_id[d.prompt_id], d.text) for d in draws])
    target.network.steer(None)
    return float(np.mean([v.score for v in verdicts]))


def test_the_refusal_direction_of_the_demo_model(demo):
    direction = find_refusal_direction(demo, *demo_refusal_prompts())
    evidence = direction.evidence
    assert evidence["passed"]
    assert evidence["warnings"] == []
    assert [token["text"] for token in evidence["refusal_tokens"]] == ["sorry"]
    odds = evidence["refusal_log_odds"]
    assert odds["harmful"] > 5 > 0 > odds["harmful_ablated"]
    assert odds["harmless"] < -2 < 2 < odds["harmless_added"]
    best = evidence["candidates"][0]
    assert (best["layer"], best["position"]) == (direction.layer, direction.position)
    passing = [c for c in evidence["candidates"] if c["passes"]]
    assert best["ablation"] == min(c["ablation"] for c in passing)
    # it does what it is for: on prompts that were never used, most replies comply
    prompts = forbidden_prompts(20, seed=77)
    assert rate(demo, direction.intervention(), "demo", prompts) > 0.3
    assert rate(demo, Ablate(torch.randn(64)), "demo", prompts) < 0.1
    assert rate(demo, None, "demo", prompts) < 0.05
    other = torch.randn(64, generator=torch.Generator().manual_seed(0))
    assert rate(demo, Ablate(other), "demo", prompts) < 0.1


def test_nothing_about_the_search_is_random(demo):
    one, two = (find_refusal_direction(demo, *demo_refusal_prompts(20)) for _ in range(2))
    assert torch.equal(one.vector, two.vector)
    assert one.evidence == two.evidence


def test_a_handful_will_do_with_a_warning(demo):
    direction = find_refusal_direction(demo, *demo_refusal_prompts(3))
    assert [w[:7] for w in direction.evidence["warnings"]] == ["only 3 ", "only 3 "]
    assert rate(demo, direction.intervention(), "demo", forbidden_prompts(10, seed=77)) > 0.1


def test_too_few_prompts_are_refused(demo: LocalModel) -> None:
    bad, good = demo_refusal_prompts(4)
    for harmful in ([], bad[:1]):
        with pytest.raises(UsageError, match=f"at least 2 harmful prompts, not {len(harmful)}"):
            find_refusal_direction(demo, harmful, good)


@pytest.mark.parametrize("order", [1, -1])
def test_prompts_that_are_the_same_are_refused_in_any_order(demo: LocalModel, order: int) -> None:
    """In another order the means of the two halves differ, by nothing that refusals are."""
    bad, _ = demo_refusal_prompts(5)
    with pytest.raises(UsageError, match="the same: --harmful takes what the model refuses"):
        find_refusal_direction(demo, bad, bad[::order])


def test_a_model_that_says_the_same_to_all_is_refused() -> None:
    model = network("llama")
    model.lm_head.weight.zero_()
    bad, good = [prompt(n) for n in range(4)], [prompt(50 + n) for n in range(4)]
    with pytest.raises(UsageError, match="are read alike"):
        find_refusal_direction(local_model(model), bad, good)


def test_candidates_that_overflow_are_none(
    demo: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = demo_refusal_prompts(4)
    places = [
        (c["layer"], c["position"])
        for c in find_refusal_direction(demo, *prompts).evidence["candidates"]
    ]
    answers = iter([math.nan, 0.0, math.inf, *[0.0] * len(places)])
    monkeypatch.setattr(refusal, "_divergence", lambda *_: next(answers))
    left = find_refusal_direction(demo, *prompts).evidence["candidates"]
    assert len(left) == len(places) - 2
    monkeypatch.setattr(refusal, "_divergence", lambda *_: math.nan)
    with pytest.raises(UsageError, match="in finite numbers"):
        find_refusal_direction(demo, *prompts)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2", "gpt-neox", "olmo2", "phi"])
def test_a_random_model_gets_a_direction_that_is_flagged_or_passes(kind: str) -> None:
    bad = [prompt(n, words=3 + n % 3) for n in range(6)]
    good = [prompt(50 + n, words=4 + n % 2) for n in range(6)]
    target = local_model(network(kind))
    direction = find_refusal_direction(target, bad, good)
    assert direction.layer in (1, 2)  # 80% of three layers
    assert -8 <= direction.position <= -1
    for candidate in direction.evidence["candidates"]:
        assert np.isfinite([candidate["ablation"], candidate["induction"], candidate["kl"]]).all()
        assert candidate["kl"] > 0
    flagged = any("no direction passed" in line for line in direction.evidence["warnings"])
    assert flagged == (not direction.evidence["passed"])
    # nothing is random, and the search leaves no hooks behind
    again = find_refusal_direction(local_model(network(kind)), bad, good)
    assert torch.equal(again.vector, direction.vector)
    assert again.evidence == direction.evidence
    ids = torch.tensor([[2, 9, 8]])
    assert torch.equal(target.model(input_ids=ids).logits, network(kind)(input_ids=ids).logits)


def test_reading_equals_plain_forward_passes():
    target = local_model(network("llama"))
    prompts = encode(target, [prompt(n, words=2 + n) for n in range(5)])
    log_probs = next_token_log_probs(target, prompts)
    ends = stream_at_end(target, prompts, 2)
    for row, ids in enumerate(prompts):
        with torch.inference_mode():
            plain = target.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        expected = plain.logits[0, -1].double().log_softmax(0)
        torch.testing.assert_close(log_probs[row], expected, atol=1e-4, rtol=1e-4)
        states = torch.stack(plain.hidden_states)[:, 0, -2:].double()
        torch.testing.assert_close(ends[row], states, atol=1e-4, rtol=1e-4)
    said = [(9, 10, 11), (12,), (7, 8), (13, 14, 15, 16), (9,)]
    means = mean_stream(target, prompts, said)
    with torch.inference_mode():
        whole = target.model(
            input_ids=torch.tensor([[*prompts[3], *said[3]]]), output_hidden_states=True
        )
    expected = torch.stack(whole.hidden_states)[:, 0, -4:].double().mean(1)
    torch.testing.assert_close(means[3], expected, atol=1e-4, rtol=1e-4)
