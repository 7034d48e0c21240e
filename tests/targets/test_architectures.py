"""Every supported architecture decodes as its own plain forward pass says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from tiny_models import (
    ARCHITECTURES,
    Queue,
    local_model,
    network,
    plain_log_prob,
    prompt,
    requests,
)

from tailbound.core.contract import SamplingOptions
from tailbound.errors import UsageError


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sampling_and_scoring_match_the_plain_forward_pass(kind: str) -> None:
    model = network(kind)
    target = local_model(model, SamplingOptions(max_new_tokens=12), batch_size=5)
    prompts = [prompt(number, words=1 + 2 * number) for number in range(4)]
    draws = list(target.sample(Queue(requests(prompts, 5)), seed=1))
    assert len(draws) == 20
    assert max(len(draw.token_ids) for draw in draws) > 6  # beyond the sliding windows
    for question in prompts:
        ids = target.encoder.encode(question)
        own = [draw for draw in draws if draw.prompt_id == question.id]
        recorded = np.array([draw.log_prob for draw in own])
        plain = [plain_log_prob(model, ids, draw.token_ids) for draw in own]
        np.testing.assert_allclose(recorded, plain, atol=1e-4)
        scored = target.score(question, [draw.token_ids for draw in own])
        np.testing.assert_allclose(recorded, scored, atol=1e-4)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_features_match_the_plain_forward_pass(kind: str) -> None:
    model = network(kind)
    target = local_model(model)
    prompts = [prompt(number, words=9 - 2 * number) for number in range(4)]
    found = target.features(prompts)
    assert found.dtype == np.float32
    for question, row in zip(prompts, found, strict=True):
        ids = torch.tensor([target.encoder.encode(question)])
        with torch.inference_mode():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        expected = torch.cat([states[len(states) // 2][0, -1], states[-1][0, -1]])
        np.testing.assert_allclose(row, expected, atol=1e-5 * float(expected.abs().max()))
        np.testing.assert_allclose(target.features([question])[0], row, atol=1e-4)


def test_a_recurrent_model_is_refused() -> None:
    config = transformers.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1)
    with pytest.raises(UsageError, match="endpoint"):
        local_model(transformers.MambaForCausalLM(config))


def test_chunked_attention_is_refused() -> None:
    model = network("llama")
    model.config.layer_types = ["chunked_attention"] * 3
    with pytest.raises(UsageError, match="chunked_attention"):
        local_model(model)


def test_a_model_that_decodes_wrongly_is_refused() -> None:
    """A mask or position that the model ignores must not pass unseen."""
    model = network("llama")
    original = model.forward

    def deaf(*args: object, position_ids: object = None, **kwargs: object) -> object:
        return original(*args, **kwargs)

    model.forward = deaf
    with pytest.raises(UsageError, match="row by row"):
        local_model(model)


def test_half_precision_says_so() -> None:
    target = local_model(network().to(torch.bfloat16))
    assert target.reproducible == "distribution"
    assert target.contract.precision == "bfloat16"
    assert any("distribution only" in notice for notice in target.notices)
    draws = list(target.sample(Queue(requests([prompt(0)], 30)), seed=1))
    scored = target.score(prompt(0), [draw.token_ids for draw in draws])
    np.testing.assert_allclose([draw.log_prob for draw in draws], scored, atol=0.3)
