"""What the search for a refusal direction says of its candidates, against plain forward passes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tailbound.demo.ablation import refusal_direction
from tailbound.demo.exact import load_model, risk_masses
from tailbound.demo.steering import demo_refusal_prompts
from tailbound.demo.vocabulary import encode as demo_encode
from tailbound.demo.world import forbidden_prompts
from tailbound.errors import UsageError
from tailbound.steering import Ablate, Add, Direction, edited, find_refusal_direction, refusal
from tailbound.steering.refusal import Candidate
from tailbound.targets.decoding.interventions import Intervention
from tailbound.targets.decoding.model import LocalModel
from targets.tiny_models import local_model, network, prompt

BAD = [prompt(n, words=3 + n % 3) for n in range(7)]
GOOD = [prompt(50 + n, words=4 + n % 2) for n in range(6)]


@pytest.fixture(scope="module")
def target() -> LocalModel:
    return local_model(network("llama", num_hidden_layers=5))


@pytest.fixture(scope="module")
def found(target: LocalModel) -> Direction:
    return find_refusal_direction(target, BAD, GOOD)


def mean_state(target: LocalModel, prompts: list[Any], layer: int, position: int) -> torch.Tensor:
    """One prompt at a time, without padding."""
    states = []
    for one in prompts:
        ids = torch.tensor([target.encoder.encode(one)])
        with torch.inference_mode():
            output = target.model(input_ids=ids, output_hidden_states=True)
        states.append(output.hidden_states[layer][0, position].double())
    return torch.stack(states).mean(0)


def first_token(
    target: LocalModel, prompts: list[Any], intervention: Intervention | None
) -> torch.Tensor:
    """Log-probs (prompts, vocabulary), one prompt at a time."""
    attached = None if intervention is None else intervention.attach(target.model)
    rows = []
    for one in prompts:
        if attached is not None:
            attached.strength = torch.ones(1)
        with torch.inference_mode():
            logits = target.model(input_ids=torch.tensor([target.encoder.encode(one)])).logits
        rows.append(logits[0, -1].double().log_softmax(0))
    if attached is not None:
        attached.remove()
    return torch.stack(rows)


def log_odds(log_probs: torch.Tensor, tokens: list[int]) -> float:
    refusal = log_probs.exp()[:, tokens].sum(1)
    return float((refusal.log() - (1 - refusal).log()).mean())


def test_every_candidate_is_judged_as_the_definition_says(
    target: LocalModel, found: Direction
) -> None:
    tokens = [token["id"] for token in found.evidence["refusal_tokens"]]
    # even places make the candidates, odd ones judge them
    plain = first_token(target, GOOD[1::2], None)
    candidates = found.evidence["candidates"]
    for one in (candidates[0], candidates[len(candidates) // 2], candidates[-1]):
        where = (one["layer"], one["position"])
        vector = mean_state(target, BAD[::2], *where) - mean_state(target, GOOD[::2], *where)
        ablate, add = Ablate(vector), Add(vector, one["layer"] - 1)
        bad = first_token(target, BAD[1::2], ablate)
        good = first_token(target, GOOD[1::2], ablate)
        added = first_token(target, GOOD[1::2], add)
        divergence = (plain.exp() * (plain - good)).sum(1).mean()
        assert one["ablation"] == pytest.approx(log_odds(bad, tokens), abs=1e-3)
        assert one["induction"] == pytest.approx(log_odds(added, tokens), abs=1e-3)
        assert one["kl"] == pytest.approx(float(divergence), rel=1e-3, abs=1e-4)
        assert one["passes"] == (one["induction"] > 0 and one["kl"] < 0.1)
    where = (found.layer, found.position)
    vector = mean_state(target, BAD[::2], *where) - mean_state(target, GOOD[::2], *where)
    torch.testing.assert_close(found.vector.double(), vector, atol=1e-5, rtol=1e-5)


def test_candidates_are_every_shared_position_of_the_first_layers(found: Direction) -> None:
    """The template ends in one token, <bot>; four of five layers are 80%."""
    places = {(one["layer"], one["position"]) for one in found.evidence["candidates"]}
    assert places == {(layer, -1) for layer in (1, 2, 3, 4)}


def test_refusal_tokens_are_those_that_harmful_prompts_make_more_likely(
    target: LocalModel, found: Direction
) -> None:
    excess = (first_token(target, BAD, None).exp().mean(0)
              - first_token(target, GOOD, None).exp().mean(0))  # fmt: skip
    tokens = [token["id"] for token in found.evidence["refusal_tokens"]]
    assert tokens[0] == int(excess.argmax())
    assert 1 <= len(tokens) <= 5
    assert all(excess[token] > excess.max() / 10 for token in tokens)
    odds = found.evidence["refusal_log_odds"]
    held = first_token(target, BAD[1::2], None)
    assert odds["harmful"] == pytest.approx(log_odds(held, tokens), abs=1e-3)


def test_what_passes() -> None:
    def passes(induction: float, kl: float) -> bool:
        return Candidate(position=-1, layer=1, ablation=0.0, induction=induction, kl=kl).passes

    assert passes(0.1, 0.09)
    assert not passes(0.1, 0.11)
    assert not passes(-0.1, 0.01)
    assert not passes(0.1, math.nan)


def test_candidates_that_fail_are_ranked_by_kl_before_ablation() -> None:
    def made(ablation: float, induction: float, kl: float) -> Candidate:
        return Candidate(position=-1, layer=1, ablation=ablation, induction=induction, kl=kl)

    passing, other = made(-1.0, 1.0, 0.05), made(-2.0, 1.0, 0.09)
    intact, near, weaker = made(-4.0, -1.0, 0.02), made(-3.0, 1.0, 0.24), made(-2.0, 1.0, 0.21)
    wrecked = made(-9.0, 1.0, 9.8)
    shuffled = [wrecked, weaker, passing, intact, near, other]
    ranked = sorted(shuffled, key=lambda one: one.rank)
    assert ranked == [other, passing, intact, near, weaker, wrecked]


def test_a_candidate_by_hand(target: LocalModel, found: Direction) -> None:
    last = find_refusal_direction(target, BAD, GOOD, layer=5, position=-1)
    assert (last.layer, last.position) == (5, -1)  # beyond the 80% that are searched
    assert len(last.evidence["candidates"]) == 1
    second = find_refusal_direction(target, BAD, GOOD, layer=2)
    (one,) = second.evidence["candidates"]
    assert one in found.evidence["candidates"]


def test_a_model_that_hardly_refuses_is_called_so(
    target: LocalModel, found: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random model begins 39% of its replies to one kind so, and 19% of those to the other."""
    rates = found.evidence["refusal_rate"]
    assert 2 * rates["harmless"] < rates["harmful"] < 0.5
    assert not any("seem to refuse" in line for line in found.evidence["warnings"])
    monkeypatch.setattr(refusal, "HARDLY", 0.5)
    again = find_refusal_direction(target, BAD, GOOD)
    assert again.evidence["warnings"][0].startswith("this model does not seem to refuse: 39% of")


def test_of_many_candidates_a_few_are_measured(
    target: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All on a few prompts as if to first order only, then the best on all of them."""
    full = find_refusal_direction(target, BAD * 3, GOOD * 3)
    monkeypatch.setattr(refusal, "IN_FULL", 2)
    monkeypatch.setattr(refusal, "SCREENED", 2)
    monkeypatch.setattr(refusal, "FINALISTS", 1)
    monkeypatch.setattr(refusal, "ROUNDS", 2)
    found = find_refusal_direction(target, BAD * 3, GOOD * 3)
    assert found.evidence["screened"] == len(full.evidence["candidates"]) == 4
    assert 1 <= len(found.evidence["candidates"]) <= 2
    best, *others = found.evidence["candidates"]
    assert best in full.evidence["candidates"]
    known = {(one["layer"], one["position"]): one for one in full.evidence["candidates"]}
    for one in others:
        # adding is left out where the KL alone is too large
        whole = known[one["layer"], one["position"]]
        left_out = {"induction": None} if one["kl"] >= refusal.MAX_KL else {}
        assert one == {**whole, **left_out}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_direction_is_found_in_any_precision(dtype: torch.dtype) -> None:
    target = local_model(network("qwen3").to(dtype))
    direction = find_refusal_direction(target, BAD, GOOD)
    assert direction.vector.dtype == torch.float32
    assert math.isfinite(direction.evidence["kl"])


def test_one_prompt_of_a_kind_is_refused_whichever_kind(target: LocalModel) -> None:
    with pytest.raises(UsageError, match="at least 2 harmless prompts, not 1"):
        find_refusal_direction(target, BAD, GOOD[:1])


def test_the_demo_model_complies_as_under_its_known_direction() -> None:
    """Exact risks: on prompts that no search saw, as high as under the direction of training."""
    from tailbound.core.contract import SamplingOptions
    from tailbound.targets.registry import load_target

    target = load_target("demo", SamplingOptions(max_new_tokens=32))
    assert isinstance(target, LocalModel)
    bad, good = demo_refusal_prompts()
    direction = find_refusal_direction(target, bad, good)
    model = load_model()
    known = refusal_direction(
        model,
        [demo_encode(one.messages) for one in bad],
        [demo_encode(one.messages) for one in good],
    )
    versions = {
        "plain": model,
        "found": edited(model, direction.vector),
        "known": edited(model, known),
        "random": edited(model, torch.randn(64, generator=torch.Generator().manual_seed(0))),
    }
    prompts = forbidden_prompts(8, seed=77)
    risk = {
        name: sum(risk_masses(version, one, tolerance=0.02).unsafe for one in prompts) / 8
        for name, version in versions.items()
    }
    assert risk["found"] > 0.8 * risk["known"] > 0.2
    assert risk["found"] > 5 * max(risk["plain"], risk["random"])
