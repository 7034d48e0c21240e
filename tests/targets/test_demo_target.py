"""The demo model as a target: what `tailbound demo` and the other commands sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import Queue, requests

from tailbound.core.contract import SamplingOptions
from tailbound.demo.files import default_prompts
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.registry import load_target

OPTIONS = SamplingOptions(max_new_tokens=32)


def demo(options: SamplingOptions = OPTIONS, **engine: object) -> LocalModel:
    target = load_target("demo", options, **engine)
    assert isinstance(target, LocalModel)
    return target


def test_contract() -> None:
    contract = demo().contract
    assert contract.target == "demo"
    assert contract.precision == "float32"
    assert contract.stop_ids
    assert contract == demo(batch_size=3).contract
    assert demo().reproducible == "draw"
    assert demo().notices == ()


def test_recorded_is_scored_log_prob() -> None:
    target = demo()
    for question in default_prompts(3):
        draws = list(target.sample(Queue(requests([question], 50)), seed=0))
        scored = target.score(question, [d.token_ids for d in draws])
        np.testing.assert_allclose([d.log_prob for d in draws], scored, atol=1e-4)
        assert all(d.text for d in draws)


def test_features_tell_prompts_apart() -> None:
    target = demo()
    prompts = default_prompts(40)
    features = target.features(prompts)
    assert features.shape == (40, 128)
    assert len(np.unique(features.round(3), axis=0)) == 40
    np.testing.assert_allclose(features[::-1], target.features(prompts[::-1]), atol=1e-5)


def test_rounding_stays_far_below_what_is_allowed() -> None:
    """The measured error that reproducibility rests on, against those of real prompts."""
    target = demo()
    assert target.fallback is not None
    prompts = default_prompts(30)
    allowed = target.fallback.error
    assert allowed < 1e-4
    for question in prompts:
        ids = target.encoder.encode(question)
        (draw,) = target.sample(Queue(requests([question], 1)), seed=1)
        exact = target.fallback.logits(ids, draw.token_ids[:-1])[0]
        prefix = target.variant.prefixes.get([ids[:-1]])[0]
        cache = target.network.cache(rows=7, columns=len(ids) + 32)
        cache.load(slice(0, 7), prefix)
        with torch.inference_mode():
            for step, token in enumerate([ids[-1], *draw.token_ids[:-1]]):
                at = len(ids) - 1 + step
                logits = target.network.forward(
                    torch.full((7, 1), token), torch.full((7,), at), cache, columns=at + 1
                )
        error = logits[:, -1].double() - exact
        spread = error.max(1).values - error.min(1).values
        assert float(spread.max()) / 2 < allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [OPTIONS, SamplingOptions(max_new_tokens=32, temperature=0.7, top_p=0.95, top_k=50)],
    ids=["plain", "truncated"],
)
def test_many_tokens_whatever_the_batch(options: SamplingOptions) -> None:
    prompts = default_prompts(40)
    asked = requests(prompts, 1500)
    expected = {
        (d.prompt_id, d.index): (d.token_ids, d.log_prob)
        for d in demo(options, batch_size=256).sample(Queue(asked), seed=5)
    }
    assert sum(len(tokens) for tokens, _ in expected.values()) > 300_000
    rng = np.random.default_rng(0)
    for rows, draws in ((1, 1_500), (7, 12_000), (97, len(asked))):
        some = [asked[i] for i in rng.permutation(len(asked))[:draws]]
        for draw in demo(options, batch_size=rows).sample(Queue(some), seed=5):
            tokens, log_prob = expected[draw.prompt_id, draw.index]
            assert draw.token_ids == tokens
            assert draw.log_prob == pytest.approx(log_prob, abs=1e-4)
