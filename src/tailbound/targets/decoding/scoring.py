"""log p(response | prompt), teacher-forced: the density that the decoder draws from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.distribution import Distribution
from tailbound.targets.decoding.prompt_cache import Prefixes, Tokens

LOGITS_AT_ONCE = 1 << 25
"""Elements of the logits of one forward pass (128 MiB in fp32)."""


@torch.inference_mode()
def score_tokens(
    network: BatchedModel,
    prefixes: Prefixes,
    distribution: Distribution,
    prompt: Tokens,
    responses: Sequence[Sequence[int]],
    *,
    strength: float = 0.0,
) -> list[NDArray[np.float64]]:
    """log p of every token of every response in nats, each array as long as its response.

    -inf for a token outside the kept set. The model is steered at `strength`, at which `prefixes`
    must read as well. Raises `UsageError` for an empty response or a token
    that the model does not have.
    """
    for number, response in enumerate(responses):
        if not response:
            raise UsageError(
                f"response {number} is empty: a response holds at least its stop token"
            )
        if min(response) < 0 or max(response) >= network.vocabulary:
            raise UsageError(
                f"response {number} has a token id outside the model's {network.vocabulary}"
            )
    prefix = prefixes.get([prompt[:-1]])[0]
    scores: list[NDArray[np.float64]] = [np.empty(0)] * len(responses)
    order = sorted(range(len(responses)), key=lambda number: len(responses[number]))
    while order:
        # longest first: the chunk's width is known before its number of rows
        width = len(responses[order[-1]])
        rows = max(1, LOGITS_AT_ONCE // (width * network.vocabulary))
        chunk, order = order[-rows:], order[:-rows]
        targets = torch.zeros((len(chunk), width), dtype=torch.int64)
        for row, number in enumerate(chunk):
            targets[row, : len(responses[number])] = torch.tensor(responses[number])
        targets = targets.to(network.device)
        first = torch.full((len(chunk), 1), prompt[-1], device=network.device)
        columns = len(prompt) + width - 1
        cache = network.cache(rows=len(chunk), columns=columns)
        cache.load(slice(0, len(chunk)), prefix)
        logits = network.forward(
            torch.cat([first, targets[:, :-1]], 1),
            torch.full((len(chunk),), len(prompt) - 1, device=network.device),
            cache,
            columns=columns,
            strength=torch.full((len(chunk),), strength, dtype=network.dtype, device=network.device)
            if strength
            else None,
        )
        values = distribution.log_prob(logits.flatten(0, 1), targets.flatten())
        table = values.view(len(chunk), width).cpu().numpy()
        for row, number in enumerate(chunk):
            scores[number] = table[row, : len(responses[number])].copy()
    return scores
