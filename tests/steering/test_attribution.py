"""First-order effects of directions are the derivatives of the interventions meant."""

from __future__ import annotations

import pytest
import torch
from tiny_models import local_model, network, prompt

from tailbound.steering import Ablate, Add
from tailbound.steering.attribution import first_order
from tailbound.steering.reading import encode, next_token_log_probs
from tailbound.targets.decoding.interventions import Intervention
from tailbound.targets.decoding.model import LocalModel

TOKENS = (5, 9)
SMALL = 1e-2
"""Not less: the norms of some models compute in 32 bits whatever the precision."""


def log_odds(target: LocalModel, ids: list[tuple[int, ...]], how: Intervention | None) -> float:
    table = next_token_log_probs(target, ids, how)[:, list(TOKENS)].logsumexp(1).exp()
    return float(table.logit().mean())


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "gpt-neox", "olmo2", "phi"])
def test_effects_to_first_order_are_derivatives(kind: str) -> None:
    model = network(kind).double()
    target = local_model(model)
    ids = encode(target, [prompt(n, words=3 + n) for n in range(3)])
    width = model.config.get_text_config().hidden_size
    vectors = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).double()
    layers = (1, 2, 1, 2)
    found = first_order(target, ids, TOKENS, vectors, layers)
    plain = log_odds(target, ids, None)
    for number, (vector, layer) in enumerate(zip(vectors, layers, strict=True)):
        for estimate, strength_of in (
            (found.ablated, lambda s, v=vector: Ablate(v, intensity=s)),
            (found.added, lambda s, v=vector, at=layer: Add(v, at - 1, s)),
        ):
            up, down = (log_odds(target, ids, strength_of(s)) for s in (SMALL, -SMALL))
            slope = (up - down) / (2 * SMALL)
            assert float(estimate[number]) - plain == pytest.approx(slope, rel=0.01, abs=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "gpt-neox", "olmo2", "phi"])
def test_what_prompts_begin_with_is_read_once_and_changes_nothing(kind: str) -> None:
    """Prompts with a common beginning, of two lengths, against one at a time."""
    target = local_model(network(kind).double())
    begun = tuple(range(3, 9))
    ids = [(*begun, 10, 11), (*begun, 12, 13), (*begun, 14, 15, 16)]
    width = target.model.config.get_text_config().hidden_size
    vectors = torch.randn(3, width, generator=torch.Generator().manual_seed(1)).double()
    layers = (1, 2, 3)
    found = first_order(target, ids, TOKENS, vectors, layers)
    alone = [first_order(target, [one], TOKENS, vectors, layers) for one in ids]
    for name in ("ablated", "added"):
        mean = torch.stack([getattr(one, name) for one in alone]).mean(0)
        torch.testing.assert_close(getattr(found, name), mean, atol=1e-5, rtol=1e-4)


def test_the_guess_at_kl_is_its_second_order() -> None:
    """By many probes, against a small ablation, whose KL grows as its square."""
    target = local_model(network("llama").double())
    ids = encode(target, [prompt(n, words=3 + n % 2) for n in range(3)])
    width = target.model.config.hidden_size
    vectors = torch.randn(4, width, generator=torch.Generator().manual_seed(0)).double()
    found = first_order(target, ids, TOKENS, vectors, (1, 2, 1, 2), probes=2000).kl
    plain = next_token_log_probs(target, ids)
    for vector, guess in zip(vectors, found.tolist(), strict=True):
        steered = next_token_log_probs(target, ids, Ablate(vector, intensity=SMALL))
        kl = float((plain.exp() * (plain - steered)).sum(1).mean()) / SMALL**2
        assert guess == pytest.approx(kl, rel=0.15)  # 4.7 standard errors of 2,000 probes
    few = [first_order(target, ids, TOKENS, vectors, (1, 2, 1, 2), probes=2).kl for _ in range(2)]
    assert torch.equal(*few)


def test_nothing_is_left_on_the_model() -> None:
    target = local_model(network("llama"))
    ids = encode(target, [prompt(0), prompt(1)])
    before = next_token_log_probs(target, ids)
    vectors = torch.randn(1, target.model.config.hidden_size)
    first_order(target, ids, TOKENS, vectors, (1,))
    assert torch.equal(next_token_log_probs(target, ids), before)
    assert not any(module._forward_hooks for module in target.model.modules())
    assert not any(module._forward_pre_hooks for module in target.model.modules())
