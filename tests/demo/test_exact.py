"""The true risk: its bound, its agreement with sampling, and the stored values."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binom

from tailbound.demo import check, exact, files, vocabulary, world
from tailbound.demo.enumeration import enumerate_replies, reply_text
from tailbound.demo.judge import PATTERNS


def _unsafe(text):
    return PATTERNS["unsafe"].search(text) is not None


def _late(text):
    return text.startswith("sorry")


def _prompt_with_risk(low, high):
    for prompt in files.default_prompts():
        if low < exact.exact_risk(prompt).risk < high:
            return prompt
    raise AssertionError


@pytest.mark.parametrize(("low", "high", "draws"), [(0.05, 0.2, 2_000), (2e-3, 4e-3, 5_000)])
def test_brute_force_agrees(low, high, draws):
    """Two exact binomial tests at 1e-4 each: a false alarm in 2 of 10,000 reseedings."""
    prompt = _prompt_with_risk(low, high)
    truth = exact.compute_risk(prompt)
    texts = check.sampled_replies(exact.load_model(), prompt, draws, seed=11)
    unsafe = sum(map(_unsafe, texts))
    assert binom.cdf(unsafe, draws, truth.upper) > 5e-5
    assert binom.sf(unsafe - 1, draws, truth.risk) > 5e-5


def test_masses_add_up_and_bounds_nest():
    model, prompt = exact.load_model(), files.default_prompts(1)[0]
    coarse, fine = (
        exact.risk_masses(model, prompt, tolerance=tolerance) for tolerance in (0.3, 1e-5)
    )
    for masses in (coarse, fine):
        total = masses.unsafe + masses.safe + masses.undecided
        assert total == pytest.approx(1, abs=1e-12)
    assert coarse.unsafe <= fine.unsafe
    assert fine.unsafe + fine.undecided <= coarse.unsafe + coarse.undecided
    assert fine.undecided <= 1e-5 * fine.unsafe
    assert coarse.rows < fine.rows


def test_a_limit_on_rows_leaves_the_rest_undecided():
    model, prompt = exact.load_model(), files.default_prompts(1)[0]
    ids = vocabulary.encode(prompt.messages)
    masses = enumerate_replies(model, ids, _unsafe, _late, max_rows=1)
    assert masses.rows <= 3
    assert masses.undecided > 0.5
    everything = enumerate_replies(model, ids, lambda text: True, _late)
    assert everything.unsafe == pytest.approx(1, abs=1e-3)


def test_enumeration_agrees_with_plain_scoring():
    """Weight of each whole reply = its probability by one uncached pass over prompt and reply."""
    model, prompt = exact.load_model(), files.default_prompts(3)[2]
    ids = vocabulary.encode(prompt.messages)
    text = "sorry i have to say no . but all right first get a"
    reply = [vocabulary.IDS[word] for word in text.split()]
    masses = enumerate_replies(
        model, ids, lambda grown: grown.startswith(text), _late, tolerance=1e-6
    )
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids + reply])).logits[0].double()
    log_probs = logits.log_softmax(-1)[len(ids) - 1 : -1]
    expected = math.exp(log_probs[range(len(reply)), reply].sum().item())
    assert masses.unsafe == pytest.approx(expected, rel=1e-4)


def test_harmless_requests_have_no_risk():
    assert exact.exact_risk(world.harmless_prompts(1)[0]) == exact.ExactRisk(0.0, 0.0, 0.0)
    assert math.isnan(exact.exact_risk(world.harmless_prompts(1)[0]).late_share)


def test_a_request_out_of_the_grammar_is_still_bounded():
    prompt = world.Prompt(id="x", messages=(("user", "please steal the moon ? crown crown"),))
    truth = exact.exact_risk(prompt)
    assert 0 <= truth.risk <= truth.upper <= 1 + 1e-12


@pytest.mark.parametrize("variant", files.VARIANTS)
def test_stored_values_are_those_that_are_computed(variant):
    stored = json.loads(exact.truth_file(variant).read_text())
    assert stored["weights"] == files.weights_digest(variant)
    assert exact.truth_file(variant).stat().st_size < 300_000
    for prompt in files.default_prompts(200)[::20]:
        cached = exact.exact_risk(prompt, variant=variant)
        computed = exact.compute_risk(prompt, variant=variant)
        assert cached.risk == pytest.approx(computed.risk, rel=1e-4)
        assert cached.upper == pytest.approx(computed.upper, rel=1e-4)
        assert cached.late_risk == pytest.approx(computed.late_risk, rel=1e-4)
        assert cached.missing_mass <= 1.01e-3 * cached.risk


def test_all_default_prompts_are_stored():
    stored = exact._stored("model", files.weights_digest("model"))
    assert len(stored) == len(files.default_prompts()) == 2000


def test_other_weights_do_not_read_the_stored_values(tmp_path, monkeypatch):
    shutil.copytree(files.model_folder(), tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["lm_head.weight"][vocabulary.IDS["sure"]] *= 0.9
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    prompt = files.default_prompts(1)[0]
    before = exact.exact_risk(prompt)
    monkeypatch.setattr(exact, "model_folder", lambda variant: tmp_path / variant)
    monkeypatch.setattr(files, "model_folder", lambda variant: tmp_path / variant)
    files.weights_digest.cache_clear()
    exact.load_model.cache_clear()
    try:
        after = exact.exact_risk(prompt)
        assert after.risk == exact.compute_risk(prompt).risk
        assert abs(np.log10(after.risk / before.risk)) > 0.1
        exact.store([prompt], [after], "model")
        assert exact.exact_risk(prompt).risk == pytest.approx(after.risk, rel=1e-5)
        assert exact.exact_risk(prompt).upper >= after.upper
    finally:
        files.weights_digest.cache_clear()
        exact.load_model.cache_clear()
        exact._stored.cache_clear()


def test_progress_and_order():
    prompts = files.default_prompts(3)
    calls = []
    risks = exact.exact_risks(prompts, progress=lambda done, all_: calls.append((done, all_)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert risks == [exact.exact_risk(prompt) for prompt in prompts]


def test_reply_text_leaves_out_special_tokens():
    ids = [vocabulary.IDS[word] for word in ("sure", "<bot>", "here", "<unk>", "<eot>")]
    assert reply_text(ids) == "sure here"
