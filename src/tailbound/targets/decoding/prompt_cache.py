"""Prompts that have been read once, shared by all of their draws."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from tailbound.targets.decoding.batched_model import BatchedModel

Tokens = tuple[int, ...]

BATCH_TOKENS = 8192
"""Tokens of prompts that are read together, padding included."""

PIECE = 1024
"""Tokens of one prompt in one forward pass: bounds the attention mask at PIECE x length."""


class Prefixes:
    """The cached keys and values of token sequences, least recently used ones dropped.

    `limit` bounds the memory in bytes (what one `get` needs is always held). All are read at one
    `strength` of the network's intervention, 0 for none.
    """

    def __init__(self, network: BatchedModel, *, limit: int, strength: float = 0.0) -> None:
        self._network = network
        self._limit = limit
        self._strength = strength
        self._held: OrderedDict[Tokens, list[Tensor]] = OrderedDict()
        self._bytes = 0

    def get(self, sequences: Sequence[Tokens]) -> list[list[Tensor]]:
        """Banks of each sequence, as `RowCache.load` takes them; unknown ones are read now."""
        unknown = sorted({s for s in sequences if s not in self._held}, key=len)
        found = {s: self._held[s] for s in sequences if s in self._held}
        for sequence in found:
            self._held.move_to_end(sequence)
        for chunk in _chunks(range(len(unknown)), [len(sequence) for sequence in unknown]):
            batch = [unknown[number] for number in chunk]
            for sequence, banks in zip(batch, self._read(batch), strict=True):
                found[sequence] = self._held[sequence] = banks
                self._bytes += self._cost(sequence)
        while self._bytes > self._limit and self._held:
            sequence, _ = self._held.popitem(last=False)
            self._bytes -= self._cost(sequence)
        return [found[sequence] for sequence in sequences]

    def clear(self) -> None:
        """Forget everything that was read."""
        self._held.clear()
        self._bytes = 0

    @torch.inference_mode()
    def extended(
        self, prompts: Sequence[Tokens], responses: Sequence[Sequence[int]]
    ) -> list[list[Tensor]]:
        """Banks of each prompt followed by the tokens of its response; only prompts are held."""
        banks = self.get([prompt[:-1] for prompt in prompts])
        found: list[list[Tensor]] = [[]] * len(prompts)
        # neighbours in length share a pass, and little of it is padding
        order = sorted(range(len(prompts)), key=lambda number: len(responses[number]))
        for chunk in _chunks(order, [len(response) + 1 for response in responses]):
            width = len(responses[chunk[-1]]) + 1
            columns = max(len(prompts[number]) for number in chunk) - 1 + width
            cache = self._network.cache(rows=len(chunk), columns=columns)
            ids = torch.zeros((len(chunk), width), dtype=torch.int64)
            for row, number in enumerate(chunk):
                cache.load(row, banks[number])
                said = [prompts[number][-1], *responses[number]]
                ids[row, : len(said)] = torch.tensor(said)
            starts = torch.tensor([len(prompts[number]) - 1 for number in chunk])
            device = self._network.device
            self._network.forward(
                ids.to(device),
                starts.to(device),
                cache,
                columns=columns,
                last=True,
                strength=self._strengths(len(chunk)),
            )
            for row, number in enumerate(chunk):
                length = len(prompts[number]) + len(responses[number])
                found[number] = cache.save(row, length)
        return found

    def _strengths(self, rows: int) -> Tensor | None:
        if not self._strength:
            return None
        network = self._network
        return torch.full((rows,), self._strength, dtype=network.dtype, device=network.device)

    def _cost(self, sequence: Tokens) -> int:
        return len(sequence) * self._network.layout.bytes_per_token

    @torch.inference_mode()
    def _read(self, batch: list[Tokens]) -> list[list[Tensor]]:
        width = len(batch[-1])
        network = self._network
        cache = network.cache(rows=len(batch), columns=max(width, 1))
        if width:
            ids = torch.zeros((len(batch), width), dtype=torch.int64)
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
            ids = ids.to(network.device)
            for start in range(0, width, PIECE):
                piece = ids[:, start : start + PIECE]
                starts = torch.full((len(batch),), start, device=network.device)
                network.forward(
                    piece,
                    starts,
                    cache,
                    columns=start + piece.shape[1],
                    last=True,
                    strength=self._strengths(len(batch)),
                )
        return [cache.save(row, len(sequence)) for row, sequence in enumerate(batch)]


def _chunks(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Runs of `order`, which is by ascending length, of at most `BATCH_TOKENS` padded tokens."""
    chunks: list[list[int]] = []
    for number in order:
        if not chunks or (len(chunks[-1]) + 1) * lengths[number] > BATCH_TOKENS:
            chunks.append([])
        chunks[-1].append(number)
    return chunks
