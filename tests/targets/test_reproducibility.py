"""The same draw comes out whatever the batch, the order and the rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import Queue, local_model, network, prompt, requests

from tailbound.core.contract import Draw, DrawRequest, SamplingOptions
from tailbound.targets.decoding import decoder, fp64_fallback
from tailbound.targets.decoding.distribution import block_size, numbers_per_token
from tailbound.targets.decoding.fp64_fallback import Fp64Fallback
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


def near_ties(model: Any, target: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw's first choice of a block, or of a token in it, is a tie within 1e-7.

    Two neighbours compete and all others have no chance.
    """
    made: dict[int, np.ndarray] = {}
    for number, request in enumerate(requests(PROMPTS, 20)):
        ids = torch.tensor([target.encoder.encode(request.prompt)])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -1].double().numpy()
        size = block_size(len(logits))
        cells = logits.reshape(-1, size)
        gumbel = np.full(numbers_per_token(len(logits)), -3.0)
        block, gap = number % (len(cells) - 1), 1e-7 if number % 2 else -1e-7
        sums = np.logaddexp.reduce(cells, axis=1)
        gumbel[block] = 20.0
        if number % 4 < 2:
            gumbel[block + 1] = 20.0 + sums[block] - sums[block + 1] + gap
        place = number % (size - 1)
        gumbel[len(cells) + place] = 20.0
        gumbel[len(cells) + place + 1] = 20.0 + cells[block][place] - cells[block][place + 1] + gap
        key = decoder.draw_key(9, request.prompt.id, request.stream, request.index)
        made[key] = np.exp(-np.exp(-gumbel))
    original = decoder.uniforms

    def crafted(key: int, start: int, count: int) -> np.ndarray:
        values = original(key, start, count)
        if start == 0:
            values[: len(made[key])] = made[key]
        return values

    monkeypatch.setattr(decoder, "uniforms", crafted)


def test_forced_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    asked = requests(PROMPTS, 20)
    target = local_model(model, OPTIONS["plain"], batch_size=256, tolerance=4e-5)
    near_ties(model, target, monkeypatch)
    expected = draws(target, asked)
    assert target.fallback is not None
    assert target.fallback.calls >= len(asked)
    for seed, rows in enumerate([1, 7, 50]):
        noisy = local_model(model, OPTIONS["plain"], batch_size=rows, tolerance=4e-5)
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
    noisy = local_model(model, OPTIONS[name], batch_size=50, tolerance=1e-3)
    add_noise(noisy, 9e-4, 1)
    assert {k: d.token_ids for k, d in draws(noisy, asked).items()} == {
        k: d.token_ids for k, d in expected.items()
    }


def test_canonical_logits_depend_on_the_tokens_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: whatever was asked before, and whatever is still held of it."""
    generator = torch.Generator().manual_seed(0)
    said = torch.randint(7, 40, (90,), generator=generator).tolist()
    prompt_ids = (2, 4, 9, 11, 13, 5)
    lengths = [0, 1, 31, 32, 33, 63, 64, 65, 90]
    for copies in (True, False):
        monkeypatch.setattr(fp64_fallback, "FP64_BYTES", (1 << 28) * copies)
        model = local_model(network("llama-grouped")).network
        fresh = [Fp64Fallback(model).logits(prompt_ids, said[:n]) for n in lengths]
        kept = Fp64Fallback(model)
        assert kept.precision == ("float64" if copies else "float32")
        assert {logits.dtype for logits in fresh} == {getattr(torch, kept.precision)}
        order = np.random.default_rng(1).permutation(3 * len(lengths)) % len(lengths)
        for place in order.tolist():
            assert torch.equal(kept.logits(prompt_ids, said[: lengths[place]]), fresh[place])
        assert len(kept._responses) == 2
        monkeypatch.setattr(fp64_fallback, "RESPONSE_BYTES", 0)
        tight = Fp64Fallback(model)
        assert torch.equal(tight.logits(prompt_ids, said), fresh[-1])
        assert not tight._responses
        assert tight._bytes == 0
        monkeypatch.undo()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_too_large_for_a_copy_decides_by_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canonical in fp32, in a batch of one: noise and the batch still change nothing."""
    monkeypatch.setattr(fp64_fallback, "FP64_BYTES", 0)
    model = network("llama-grouped")
    asked = requests(PROMPTS, 20)
    target = local_model(model, OPTIONS[name], batch_size=256, tolerance=1e-3)
    assert target.fallback is not None
    assert target.fallback.precision == "float32"
    assert any("float32" in notice for notice in target.notices)
    expected = draws(target, asked)
    assert target.fallback.calls > 0
    assert target.fallback._network is target.network
    for rows in (1, 7):
        assert_same(
            draws(local_model(model, OPTIONS[name], batch_size=rows, tolerance=1e-3), asked),
            expected,
        )


@pytest.mark.parametrize("kind", ["llama-grouped", "gpt2", "gemma3"])
@pytest.mark.parametrize("copies", [True, False])
def test_the_error_is_measured(kind: str, copies: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is assumed covers what is met, and is not much more than that."""
    monkeypatch.setattr(fp64_fallback, "FP64_BYTES", (1 << 28) * copies)
    target = local_model(network(kind), OPTIONS["plain"])
    fallback = target.fallback
    assert fallback is not None
    assert 1e-8 < fallback.error < 1e-3
    largest = 0.0
    for question in PROMPTS:
        ids = target.encoder.encode(question)
        said = [7 + (3 * place) % 30 for place in range(12)]
        cache = target.network.cache(rows=5, columns=len(ids) + 12)
        cache.load(slice(0, 5), target.variant.prefixes.get([ids[:-1]])[0])
        for step in range(12):
            at = len(ids) - 1 + step
            with torch.inference_mode():
                logits = target.network.forward(
                    torch.full((5, 1), [ids[-1], *said][step]),
                    torch.full((5,), at),
                    cache,
                    columns=at + 1,
                )[:, -1]
            error = logits.double() - fallback.logits(ids, said[:step]).double()
            largest = max(largest, float((error.amax(1) - error.amin(1)).max()) / 2)
    assert largest < fallback.error
    assert fallback.error < 300 * max(largest, 1e-7)
