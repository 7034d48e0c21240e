"""How the model reads prompts: activations of its residual stream, and its next token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tailbound.core.prompt import Prompt
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.cache import RowCache
from tailbound.targets.decoding.interventions import Intervention
from tailbound.targets.decoding.prompt_cache import BATCH_TOKENS

TokenIds = tuple[int, ...]


def encode(target: WhiteBox, prompts: Sequence[Prompt]) -> list[TokenIds]:
    """Token ids of each prompt as the target reads it."""
    return [target.encoder.encode(prompt) for prompt in prompts]


@torch.inference_mode()
def stream_at_end(target: WhiteBox, prompts: Sequence[TokenIds], positions: int) -> Tensor:
    """The stream at the last `positions` tokens, fp64 on the host.

    Shape (prompts, layers + 1, positions, width), the embeddings first; the last layer's is after
    the final norm.
    """
    network = target.network
    # what all prompts begin with is read once, but for what is asked for
    shared = min(common_beginning(prompts), min(map(len, prompts)) - positions)
    banks: list[Tensor] = []
    if shared:
        one = network.cache(rows=1, columns=shared)
        ids = torch.tensor([prompts[0][:shared]], device=network.device)
        start = torch.zeros(1, dtype=torch.int64, device=network.device)
        network.forward(ids, start, one, columns=shared, last=True)
        banks = one.save(0, shared)
    rows: dict[int, Tensor] = {}
    for chunk, ids in _padded([prompt[shared:] for prompt in prompts], network):
        cache: RowCache | None = None
        if shared:
            cache = network.cache(rows=len(chunk), columns=shared + ids.shape[1])
            cache.load(slice(0, len(chunk)), banks)
        states = torch.stack(network.hidden(ids, start=shared, cache=cache), dim=1)
        for row, number in enumerate(chunk):
            end = len(prompts[number]) - shared
            rows[number] = states[row, :, end - positions : end].double().cpu()
    return torch.stack([rows[number] for number in range(len(prompts))])


@torch.inference_mode()
def mean_stream(
    target: WhiteBox, prompts: Sequence[TokenIds], responses: Sequence[Sequence[int]]
) -> Tensor:
    """The stream averaged over the tokens of each response, (responses, layers + 1, width), fp64.

    `prompts[i]` stands before `responses[i]`, which must not be empty.
    """
    whole = [(*p, *r) for p, r in zip(prompts, responses, strict=True)]
    rows: dict[int, Tensor] = {}
    for chunk, ids in _padded(whole, target.network):
        states = torch.stack(target.network.hidden(ids), dim=1)
        for row, number in enumerate(chunk):
            said = slice(len(prompts[number]), len(whole[number]))
            rows[number] = states[row, :, said].double().mean(1).cpu()
    return torch.stack([rows[number] for number in range(len(whole))])


@torch.inference_mode()
def next_token_log_probs(
    target: WhiteBox,
    prompts: Sequence[TokenIds],
    intervention: Intervention | None = None,
) -> Tensor:
    """Log-probabilities of the first token of a reply, (prompts, vocabulary), fp64 on the host.

    At temperature 1 and without truncation; steered by `intervention` at full strength if given.
    """
    network = target.network
    # what all prompts begin with, such as examples in a template, is read once
    shared = common_beginning(prompts)
    attached = None if intervention is None else intervention.attach(network.model)

    def forward(ids: Tensor, starts: Tensor, cache: RowCache, columns: int) -> Tensor:
        if attached is not None:
            attached.strength = torch.ones(len(ids), dtype=network.dtype, device=network.device)
        return network.forward(ids, starts, cache, columns=columns, last=True)

    rows: dict[int, Tensor] = {}
    try:
        banks: list[Tensor] = []
        if shared:
            one = network.cache(rows=1, columns=shared)
            ids = torch.tensor([prompts[0][:shared]], device=network.device)
            forward(ids, torch.zeros(1, dtype=torch.int64, device=network.device), one, shared)
            banks = one.save(0, shared)
        for chunk, ids in _padded([prompt[shared:] for prompt in prompts], network):
            # all prompts but their last tokens; then those, each at its own position
            width = shared + ids.shape[1]
            cache = network.cache(rows=len(chunk), columns=width)
            if shared:
                cache.load(slice(0, len(chunk)), banks)
            starts = torch.full((len(chunk),), shared, device=network.device)
            if ids.shape[1] > 1:
                forward(ids[:, :-1], starts, cache, width - 1)
            ends = torch.tensor([len(prompts[n]) - 1 for n in chunk], device=network.device)
            last = ids.gather(1, (ends - shared)[:, None])
            logits = forward(last, ends, cache, width)[:, -1]
            rows.update(zip(chunk, logits.double().log_softmax(1).cpu(), strict=True))
    finally:
        if attached is not None:
            attached.remove()
    return torch.stack([rows[number] for number in range(len(prompts))])


def common_beginning(prompts: Sequence[TokenIds]) -> int:
    """Number of first tokens that all prompts share, each having one more."""
    shortest = min(len(ids) for ids in prompts) - 1
    count = 0
    while count < shortest and len({ids[count] for ids in prompts}) == 1:
        count += 1
    return count


def _padded(
    sequences: Sequence[TokenIds], network: BatchedModel
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of sequences of about one length: their numbers, and ids padded on the right."""
    order = sorted(range(len(sequences)), key=lambda number: len(sequences[number]))
    while order:
        width = len(sequences[order[-1]])
        size = max(1, BATCH_TOKENS // width)
        chunk, order = order[-size:], order[:-size]
        ids = torch.zeros((len(chunk), width), dtype=torch.int64)
        for row, number in enumerate(chunk):
            ids[row, : len(sequences[number])] = torch.tensor(sequences[number])
        yield chunk, ids.to(network.device)
