"""Directions found on the demo model, on random models, and kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailbound.contract import DrawRequest, SamplingOptions
from tailbound.demo.steering import demo_refusal_prompts, demo_trait
from tailbound.demo.world import forbidden_prompts
from tailbound.errors import UsageError
from tailbound.judges import Exchange
from tailbound.judges.registry import load_judge
from tailbound.steering import (
    Ablate,
    Add,
    Direction,
    Trait,
    find_persona_vector,
    find_refusal_direction,
)
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


def rate(target: LocalModel, intervention: Any, judge: str, prompts: list[Any]) -> float:
    """Share of replies that the judge finds unsafe, all steered, 16 per prompt."""
    engine = ProposalModel(target, [steered(target, intervention, 1.0, name="on")])
    requests = [
        DrawRequest(prompt=one, stream="rate", index=i, segments=((1, 32),))
        for one in prompts
        for i in range(1, 17)
    ]
    by_id = {one.id: one for one in prompts}
    draws = list(engine.draw(requests, seed=0))
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


def test_nothing_about_the_search_is_random(demo):
    one, two = (find_refusal_direction(demo, *demo_refusal_prompts(20)) for _ in range(2))
    assert torch.equal(one.vector, two.vector)
    assert one.evidence == two.evidence


def test_a_handful_will_do_with_a_warning(demo):
    direction = find_refusal_direction(demo, *demo_refusal_prompts(3))
    assert [w[:7] for w in direction.evidence["warnings"]] == ["only 3 ", "only 3 "]
    assert rate(demo, direction.intervention(), "demo", forbidden_prompts(10, seed=77)) > 0.1


def test_too_few_or_equal_prompts_are_refused(demo):
    bad, good = demo_refusal_prompts(4)
    with pytest.raises(UsageError, match="at least 2 harmful prompts, not 1"):
        find_refusal_direction(demo, bad[:1], good)
    with pytest.raises(UsageError, match="read alike by the model"):
        find_refusal_direction(demo, bad, bad)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2", "gpt-neox", "olmo2"])
def test_a_random_model_gets_a_direction_that_is_flagged_or_passes(kind):
    target = local_model(network(kind))
    bad = [prompt(n, words=3 + n % 3) for n in range(6)]
    good = [prompt(50 + n, words=4 + n % 2) for n in range(6)]
    direction = find_refusal_direction(target, bad, good)
    layers = len(list(target.model.get_decoder().layers if kind != "gpt2" else [0, 0, 0]))
    assert 1 <= direction.layer <= max(1, int(0.8 * layers))
    assert -8 <= direction.position <= -1
    for candidate in direction.evidence["candidates"]:
        assert np.isfinite([candidate["ablation"], candidate["induction"], candidate["kl"]]).all()
    if not direction.evidence["passed"]:
        assert "no direction passed" in direction.evidence["warnings"][-1]
    # the search leaves no hooks behind
    assert torch.equal(target.model(input_ids=torch.tensor([[2, 9, 8]])).logits,
                       network(kind)(input_ids=torch.tensor([[2, 9, 8]])).logits)  # fmt: skip


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


def test_a_persona_vector_of_the_demo_model(demo):
    judge = load_judge("demo:flatter")
    direction = find_persona_vector(demo, demo_trait("flatter"), judge)
    rates = direction.evidence["trait_rate"]
    assert rates["positive_prompts"] > 0.8
    assert rates["negative_prompts"] < 0.1
    assert rates["plain"] < 0.05 < 0.3 < rates["steered"]
    best = direction.evidence["settings"][0]
    coherent = [s for s in direction.evidence["settings"] if s["coherent"]]
    assert best["trait_rate"] == max(s["trait_rate"] for s in coherent)
    assert direction.kind == "persona:flatter"
    intervention = direction.intervention()
    assert isinstance(intervention, Add)
    assert intervention.layer == direction.layer - 1
    trait = demo_trait("flatter")
    assert rate(demo, intervention, "demo:flatter", list(trait.questions)) > 0.3


def test_a_trait_that_is_not_shown_makes_no_vector(demo):
    trait = demo_trait("bold")
    with pytest.raises(UsageError, match="positive system prompts of trait 'bold' were judged"):
        find_persona_vector(demo, trait, load_judge("regex:never said"))


def test_trait_files(tmp_path: Path):
    path = tmp_path / "kind.yaml"
    path.write_text("positive: [be kind]\nnegative: [be rude]\nquestions: [who are you, why]\n")
    trait = Trait.read(path)
    assert trait.name == "kind"
    assert [q.text for q in trait.questions] == ["who are you", "why"]
    path.write_text("positive: be kind\nnegative: [be rude]\nquestions: [why]\n")
    with pytest.raises(UsageError, match="needs 'positive': a list"):
        Trait.read(path)
    path.write_text("- a list")
    with pytest.raises(UsageError, match="must hold a mapping"):
        Trait.read(path)
    path.write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        Trait.read(path)


def made(**changes: Any) -> Direction:
    values: dict[str, Any] = {
        "kind": "refusal",
        "vector": torch.arange(1.0, 9.0),
        "layer": 3,
        "position": -1,
        "coefficient": 1.0,
        "model": "hf:tiny",
        "revision": "abc",
        "contract": "0" * 16,
        "evidence": {"passed": True, "warnings": []},
    }
    return Direction(**{**values, **changes})


def test_a_direction_comes_back_as_it_was_saved(tmp_path: Path):
    direction = made()
    direction.save(tmp_path / "d")
    held = Direction.load(tmp_path / "d")
    assert torch.equal(held.vector, direction.vector)
    assert held.intervention().id == direction.intervention().id
    for name in ("kind", "layer", "position", "coefficient", "model", "revision", "evidence"):
        assert getattr(held, name) == getattr(direction, name)
    persona = made(kind="persona:bold", position=None, coefficient=4.0)
    add = persona.intervention()
    assert isinstance(add, Add)
    assert (add.layer, add.coefficient) == (2, 4.0)


def test_what_is_not_a_direction_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no direction"):
        Direction.load(tmp_path)
    made().save(tmp_path)
    (tmp_path / "direction.safetensors").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot be read"):
        Direction.load(tmp_path)
    made().save(tmp_path)
    note = tmp_path / "direction.json"
    note.write_text(note.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(UsageError, match="has schema 99"):
        Direction.load(tmp_path)


def test_another_revision_is_worth_a_line():
    assert made().notice_for("hf:tiny", "abc") is None
    notice = made().notice_for("hf:tiny", "def")
    assert notice is not None
    assert "stay valid" in notice


def test_a_note_that_does_not_belong_to_its_vector_is_refused(tmp_path: Path):
    made().save(tmp_path)
    note = tmp_path / "direction.json"
    whole = note.read_text()
    note.write_text(whole.replace('"width": 8', '"width": 9'))
    with pytest.raises(UsageError, match=r"has shape \(8,\), and direction.json says \(9,\)"):
        Direction.load(tmp_path)
    note.write_text(whole.replace('"layer"', '"depth"'))
    with pytest.raises(UsageError, match="has no 'layer'"):
        Direction.load(tmp_path)
    note.write_text("[]")
    with pytest.raises(UsageError, match="has schema None"):
        Direction.load(tmp_path)
    note.write_text(whole)
    assert Direction.load(tmp_path).layer == 3
