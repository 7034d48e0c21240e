"""Prompts that have been read once, shared by all of their draws."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from tailbound.targets.decoding.network import Network

Tokens = tuple[int, ...]

BATCH_TOKENS = 8192
"""Tokens of prompts that are read together, padding included."""

PIECE = 1024
"""Tokens of one prompt in one forward pass: bounds the attention mask at PIECE x length."""


class Prefixes:
    """The cached keys and values of token sequences, least recently used ones dropped.

    `limit` bounds the memory in bytes (what one `get` needs is always held).
    """

    def __init__(self, network: Network, *, limit: int) -> None:
        self._network = network
        self._limit = limit
        self._held: OrderedDict[Tokens, list[Tensor]] = OrderedDict()
        self._bytes = 0

    def get(self, sequences: Sequence[Tokens]) -> list[list[Tensor]]:
        """Banks of each sequence, as `RowCache.load` takes them; unknown ones are read now."""
        unknown = sorted({s for s in sequences if s not in self._held}, key=len)
        found = {s: self._held[s] for s in sequences if s in self._held}
        for sequence in found:
            self._held.move_to_end(sequence)
        for batch in _batches(unknown):
            for sequence, banks in zip(batch, self._read(batch), strict=True):
                found[sequence] = self._held[sequence] = banks
                self._bytes += self._cost(sequence)
        while self._bytes > self._limit and self._held:
            sequence, _ = self._held.popitem(last=False)
            self._bytes -= self._cost(sequence)
        return [found[sequence] for sequence in sequences]

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
                network.forward(piece, starts, cache, columns=start + piece.shape[1], last=True)
        return [cache.save(row, len(sequence)) for row, sequence in enumerate(batch)]


def _batches(sequences: list[Tokens]) -> list[list[Tokens]]:
    """Consecutive groups of sequences, sorted by length, of at most `BATCH_TOKENS` each."""
    batches: list[list[Tokens]] = []
    for sequence in sequences:
        if not batches or (len(batches[-1]) + 1) * len(sequence) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(sequence)
    return batches
