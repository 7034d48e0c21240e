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


def test_nothing_is_left_on_the_model() -> None:
    target = local_model(network("llama"))
    ids = encode(target, [prompt(0), prompt(1)])
    before = next_token_log_probs(target, ids)
    vectors = torch.randn(1, target.model.config.hidden_size)
    first_order(target, ids, TOKENS, vectors, (1,))
    assert torch.equal(next_token_log_probs(target, ids), before)
    assert not any(module._forward_hooks for module in target.model.modules())
    assert not any(module._forward_pre_hooks for module in target.model.modules())
