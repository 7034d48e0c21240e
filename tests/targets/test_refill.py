"""Every request is answered exactly once, and the batch stays full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import Queue, local_model, network, plain_log_prob, prompt, requests

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.errors import TargetError
from tailbound.targets.decoding import memory, prompt_cache

PROMPTS = [prompt(number, words=1 + number) for number in range(9)]


class Moody:
    """Answers with anything from nothing to everything, as verdicts of other draws come in."""

    def __init__(self, items: Sequence[DrawRequest], seed: int) -> None:
        self.items = list(items)
        self.rng = np.random.default_rng(seed)

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        size = min(limit, int(self.rng.integers(0, 5)))
        if wait:
            size = max(size, 1)
        found, self.items = self.items[:size], self.items[size:]
        return found


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_request_is_answered_once(rows: int, seed: int) -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=9), batch_size=rows)
    asked = requests(PROMPTS, 11)
    np.random.default_rng(seed).shuffle(asked)  # type: ignore[arg-type]
    draws = list(target.sample(Moody(asked, seed), seed=5))
    assert Counter((d.prompt_id, d.stream, d.index) for d in draws) == Counter(
        (r.prompt.id, r.stream, r.index) for r in asked
    )


def test_the_batch_is_filled_and_never_overfilled() -> None:
    source = Queue(requests(PROMPTS, 20))
    target = local_model(network(), SamplingOptions(max_new_tokens=9), batch_size=16)
    assert target.fallback is not None
    assert target.fallback.error > 0  # measured now, and not while the passes are counted
    widths = []
    forward = target.network.forward

    def watched(ids, starts, cache, **kwargs):  # type: ignore[no-untyped-def]
        if ids.shape[1] == 1:
            widths.append(len(ids))
        return forward(ids, starts, cache, **kwargs)

    target.network.forward = watched  # type: ignore[method-assign]
    tokens = sum(len(d.token_ids) for d in target.sample(source, seed=0))
    assert source.largest_limit == 16
    assert max(widths) == 16
    # every forward row gives one token: no finished row is ever computed
    assert sum(widths) == tokens
    full = tokens // 16
    assert widths[: full - 10] == [16] * (full - 10)


def test_each_prompt_is_read_once() -> None:
    target = local_model(network(), batch_size=8)
    read: list[int] = []
    original = target.variant.prefixes._read

    def counted(batch):  # type: ignore[no-untyped-def]
        read.append(len(batch))
        return original(batch)

    target.variant.prefixes._read = counted  # type: ignore[method-assign]
    list(target.sample(Queue(requests(PROMPTS, 30)), seed=0))
    assert sum(read) == len(PROMPTS)


def test_a_small_prompt_cache_changes_no_draw() -> None:
    asked = requests(PROMPTS, 6)[::-1]
    model = network()
    plenty = local_model(model, batch_size=4)
    tight = local_model(model, batch_size=4, prompt_cache_bytes=1)
    expected = {(d.prompt_id, d.index): d.token_ids for d in plenty.sample(Queue(asked), seed=2)}
    found = {(d.prompt_id, d.index): d.token_ids for d in tight.sample(Queue(asked), seed=2)}
    assert found == expected
    assert not tight.variant.prefixes._held


@pytest.mark.parametrize("kind", ["llama", "gemma3", "gpt2"])
def test_long_prompts_are_read_in_pieces(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(kind)
    asked = requests([prompt(number, words=20 + number) for number in range(4)], 5)
    expected = {(d.prompt_id, d.index): d for d in local_model(model).sample(Queue(asked), seed=2)}
    monkeypatch.setattr(prompt_cache, "PIECE", 7)
    for draw in local_model(model).sample(Queue(asked), seed=2):
        same = expected[draw.prompt_id, draw.index]
        assert draw.token_ids == same.token_ids
        assert draw.log_prob == pytest.approx(same.log_prob, abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_cache_grows_with_long_responses(kind: str) -> None:
    """Up to the last position of the context, while other rows finish and are refilled."""
    model = network(kind, vocabulary=400)
    model.generation_config.eos_token_id = [3, 40, 41, 42]
    target = local_model(model, SamplingOptions(max_new_tokens=123), batch_size=4)
    question = prompt(0, words=2)
    assert target.prompt_tokens([question]) + 123 == target.network.context
    draws = list(target.sample(Queue(requests([question], 32)), seed=0))
    assert {len(draw.token_ids) == 123 for draw in draws} == {True, False}
    ids = target.encoder.encode(question)
    plain = [plain_log_prob(model, ids, draw.token_ids) for draw in draws]
    np.testing.assert_allclose([draw.log_prob for draw in draws], plain, atol=1e-3)


def test_nothing_to_do() -> None:
    assert list(local_model(network()).sample(Queue([]), seed=0)) == []


def test_damaged_weights_are_reported() -> None:
    model = network()
    target = local_model(model)
    model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TargetError, match="not finite"):
        list(target.sample(Queue(requests([prompt(0)], 2)), seed=0))


def test_rows_of_the_cache_are_made_by_need() -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=9), batch_size=1000)
    made = []
    cache = target.network.cache

    def watched(*, rows: int, columns: int):  # type: ignore[no-untyped-def]
        made.append(cache(rows=rows, columns=columns))
        return made[-1]

    target.network.cache = watched  # type: ignore[method-assign]
    assert len(list(target.sample(Queue(requests(PROMPTS[:2], 6), portion=5), seed=0))) == 12
    assert max(one.rows for one in made) <= 15


def test_the_prompt_cache_is_a_share_of_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.prompt_cache_bytes(cpu) == memory.MOST // 8
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemAvailable: 8388608 kB\n")
    assert memory.prompt_cache_bytes(cpu) == 1 << 30
    (tmp_path / "memory.max").write_text(f"{3 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 30}\n")
    assert memory.prompt_cache_bytes(cpu) == 1 << 28
    (tmp_path / "memory.max").write_text("max\n")
    assert local_model(network()).prompt_cache_bytes == 1 << 30
    (tmp_path / "meminfo").write_text("MemAvailable: 1000 kB\n")
    assert memory.prompt_cache_bytes(cpu) == memory.LEAST
