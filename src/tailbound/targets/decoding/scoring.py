"""log p(response | prompt), teacher-forced: the density that the decoder draws from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailbound.errors import UsageError
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.distribution import Distribution
from tailbound.targets.decoding.prompt_cache import Prefixes, Tokens
from tailbound.targets.decoding.reshaping import Reshape

LOGITS_AT_ONCE = 1 << 25
"""Elements of the logits of one forward pass (128 MiB in fp32)."""


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
    prompts = [prompt] * len(responses)
    tables = score_reshaped(
        network, prefixes, distribution, prompts, responses, [None], strength=strength
    )
    return [table[0] for table in tables]


def score_reshaped(
    network: BatchedModel,
    prefixes: Prefixes,
    distribution: Distribution,
    prompts: Sequence[Tokens],
    responses: Sequence[Sequence[int]],
    reshapes: Sequence[Reshape | None],
    *,
    prompt_ids: Sequence[str] = (),
    strength: float = 0.0,
) -> list[NDArray[np.float64]]:
    """`score_tokens` of several variants of one network by one pass: (variants, tokens) each.

    Each response has its prompt, and the id that reshapes know it by. None among `reshapes` is the
    network's own distribution.
    """
    scores: list[NDArray[np.float64]] = [np.empty(0)] * len(responses)
    for chunk, logits, targets in _passes(network, prefixes, prompts, responses, strength):
        rows, width = targets.shape
        names = [prompt_ids[number] for number in chunk for _ in range(width) if prompt_ids]
        values, total = distribution.log_prob_and_total(logits, targets.flatten())
        scaled = None
        tables = []
        for reshape in reshapes:
            shaped = values
            if reshape is not None:
                scaled = distribution.scaled_logits(logits) if scaled is None else scaled
                shaped = reshape.log_prob(scaled, total, targets.flatten(), names)
            tables.append(shaped.view(rows, width))
        table = torch.stack(tables).cpu().numpy()
        for row, number in enumerate(chunk):
            scores[number] = table[:, row, : len(responses[number])].copy()
    return scores


def expected_tokens(
    network: BatchedModel,
    prefixes: Prefixes,
    distribution: Distribution,
    prompts: Sequence[Tokens],
    responses: Sequence[Sequence[int]],
    weights: Sequence[float],
    tokens: Mapping[str, Sequence[int]],
    *,
    prompt_ids: Sequence[str],
) -> dict[str, NDArray[np.float64]]:
    """How often the target would say each of `tokens` in the places of `responses`.

    By prompt id, for the tokens of that prompt, (2, tokens): the sum over places of the probability
    there, each response counted `weights` times; then the same over first places alone.
    """
    totals = {name: np.zeros((2, len(some))) for name, some in tokens.items()}
    ids = {
        name: torch.tensor(list(some), dtype=torch.int64, device=network.device)
        for name, some in tokens.items()
    }
    for chunk, logits, targets in _passes(network, prefixes, prompts, responses, 0.0):
        width = targets.shape[1]
        _, of_all = distribution.log_prob_and_total(logits, targets.flatten())
        scaled = distribution.scaled_logits(logits)
        for row, number in enumerate(chunk):
            places = slice(row * width, row * width + len(responses[number]))
            name = prompt_ids[number]
            picked = scaled[places].index_select(1, ids[name]).double()
            chances = (picked - of_all[places, None]).exp_().cpu().numpy()
            totals[name] += weights[number] * np.stack([chances.sum(axis=0), chances[0]])
    return totals


@torch.inference_mode()
def _passes(
    network: BatchedModel,
    prefixes: Prefixes,
    prompts: Sequence[Tokens],
    responses: Sequence[Sequence[int]],
    strength: float,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Forward passes over all responses: their numbers, logits (rows x width, V), tokens.

    Responses of like length share a pass, whatever their prompts.
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
    order = sorted(range(len(responses)), key=lambda number: len(responses[number]))
    while order:
        # longest first: the chunk's width is known before its number of rows
        width = len(responses[order[-1]])
        rows = max(1, LOGITS_AT_ONCE // (width * network.vocabulary))
        chunk, order = order[-rows:], order[:-rows]
        chunk.sort(key=lambda number: prompts[number])
        targets = torch.zeros((len(chunk), width), dtype=torch.int64)
        for row, number in enumerate(chunk):
            targets[row, : len(responses[number])] = torch.tensor(responses[number])
        targets = targets.to(network.device)
        said = [prompts[number] for number in chunk]
        first = torch.tensor([prompt[-1:] for prompt in said], device=network.device)
        columns = max(len(prompt) for prompt in said) + width - 1
        cache = network.cache(rows=len(chunk), columns=columns)
        row = 0
        for prompt, same in groupby(said):
            rows = sum(1 for _ in same)
            cache.load(slice(row, row + rows), prefixes.get([prompt[:-1]])[0])
            row += rows
        logits = network.forward(
            torch.cat([first, targets[:, :-1]], 1),
            torch.tensor([len(prompt) - 1 for prompt in said], device=network.device),
            cache,
            columns=columns,
            strength=torch.full((len(chunk),), strength, dtype=network.dtype, device=network.device)
            if strength
            else None,
        )
        yield chunk, logits.flatten(0, 1), targets
