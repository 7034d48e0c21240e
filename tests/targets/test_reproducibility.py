"""The same draw comes out whatever the batch, the order and the rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import Queue, local_model, network, prompt, requests

from tailbound.core.contract import Draw, DrawRequest, SamplingOptions
from tailbound.targets.decoding import decoder
from tailbound.targets.decoding.model import LocalModel

PROMPTS = [prompt(number, words=1 + number) for number in range(6)]
OPTIONS = {
    "plain": SamplingOptions(max_new_tokens=16),
    "truncated": SamplingOptions(max_new_tokens=16, temperature=0.8, top_p=0.9, top_k=25),
}
Named = dict[tuple[str, str, int], Draw]


def draws(target: LocalModel, asked: list[DrawRequest], seed: int = 9) -> Named:
    return {(d.prompt_id, d.stream, d.index): d for d in target.sample(Queue(asked), seed=seed)}


def assert_same(left: Named, right: Named) -> None:
    assert left.keys() == right.keys()
    assert {k: d.token_ids for k, d in left.items()} == {k: d.token_ids for k, d in right.items()}
    for key, draw in left.items():
        assert draw.text == right[key].text
        assert draw.log_prob == pytest.approx(right[key].log_prob, abs=1e-4)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", ["llama-grouped", "gpt2", "gemma3"])
def test_batch_and_order_change_nothing(kind: str, name: str) -> None:
    model = network(kind)
    asked = requests(PROMPTS, 12)
    expected = draws(local_model(model, OPTIONS[name], batch_size=256), asked)
    assert len(expected) == len(asked)
    shuffled = list(asked)
    np.random.default_rng(0).shuffle(shuffled)  # type: ignore[arg-type]
    assert_same(draws(local_model(model, OPTIONS[name], batch_size=1), asked), expected)
    assert_same(draws(local_model(model, OPTIONS[name], batch_size=7), shuffled), expected)
    # a resume: some draws first, the others in another process
    target = local_model(model, OPTIONS[name], batch_size=7)
    assert_same(draws(target, shuffled[:20]) | draws(target, shuffled[20:]), expected)


def test_seed_stream_and_index_name_a_draw() -> None:
    target = local_model(network(), OPTIONS["plain"])
    asked = requests(PROMPTS, 5)
    first = draws(target, asked)
    assert len({d.token_ids for d in first.values()}) > 20
    other_seed = draws(target, asked, seed=10)
    other_stream = draws(target, requests(PROMPTS, 5, stream="other"))
    assert [d.token_ids for d in first.values()] != [d.token_ids for d in other_seed.values()]
    assert [d.token_ids for d in first.values()] != [d.token_ids for d in other_stream.values()]


@pytest.mark.parametrize("name", OPTIONS)
def test_all_decisions_in_double_precision(name: str) -> None:
    """With a boundless tolerance every token is canonical, and hardly one changes."""
    model = network()
    asked = requests(PROMPTS, 4)
    quick = local_model(model, OPTIONS[name])
    slow = local_model(model, OPTIONS[name], tolerance=1e9, batch_size=3)
    expected = draws(quick, asked)
    assert_same(draws(slow, asked), expected)
    assert slow.fallback is not None
    assert quick.fallback is not None
    tokens = sum(len(d.token_ids) for d in expected.values())
    assert slow.fallback.calls > 0.9 * tokens
    assert quick.fallback.calls < 0.1 * tokens


def add_noise(target: LocalModel, size: float, seed: int) -> None:
    """Let every logit be off by up to `size`, differently at each call."""
    forward = target.network.forward
    generator = torch.Generator().manual_seed(seed)

    def noisy(*args: Any, **kwargs: Any) -> torch.Tensor:
        logits = forward(*args, **kwargs)
        return logits + size * (2 * torch.rand(logits.shape, generator=generator) - 1)

    target.network.forward = noisy  # type: ignore[method-assign]


def boundary_uniforms(model: Any, target: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw's first uniform lies within 1e-7 of an edge of the canonical distribution."""
    edges: dict[int, float] = {}
    for number, request in enumerate(requests(PROMPTS, 20)):
        ids = torch.tensor([target.encoder.encode(request.prompt)])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -1].double()
        cumulative = logits.softmax(0).cumsum(0)
        inner = [float(edge) for edge in cumulative if 0.01 < edge < 0.99]
        key = decoder.draw_key(9, request.prompt.id, request.stream, request.index)
        edges[key] = inner[number % len(inner)] + (1e-7 if number % 2 else -1e-7)
    original = decoder.uniforms

    def crafted(key: int, start: int, count: int) -> np.ndarray:
        values = original(key, start, count)
        if start == 0:
            values[0] = edges[key]
        return values

    monkeypatch.setattr(decoder, "uniforms", crafted)


def test_forced_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    asked = requests(PROMPTS, 20)
    target = local_model(model, OPTIONS["plain"], batch_size=256)
    boundary_uniforms(model, target, monkeypatch)
    expected = draws(target, asked)
    assert target.fallback is not None
    assert target.fallback.calls >= len(asked)
    for seed, rows in enumerate([1, 7, 50]):
        noisy = local_model(model, OPTIONS["plain"], batch_size=rows)
        add_noise(noisy, 3e-5, seed)
        assert {k: d.token_ids for k, d in draws(noisy, asked).items()} == {
            k: d.token_ids for k, d in expected.items()
        }
    # without the fallback, the same noise changes tokens: the test can fail
    bare = local_model(model, OPTIONS["plain"], tolerance=0.0)
    assert bare.reproducible == "distribution"
    add_noise(bare, 3e-5, 0)
    assert {k: d.token_ids for k, d in draws(bare, asked).items()} != {
        k: d.token_ids for k, d in expected.items()
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_rounding_changes_nothing(name: str) -> None:
    """Noise as large as the tolerance allows, at every step of every row."""
    model = network()
    asked = requests(PROMPTS, 40)
    expected = draws(local_model(model, OPTIONS[name]), asked)
    noisy = local_model(model, OPTIONS[name], batch_size=50)
    add_noise(noisy, 3.5e-5, 1)
    assert {k: d.token_ids for k, d in draws(noisy, asked).items()} == {
        k: d.token_ids for k, d in expected.items()
    }
