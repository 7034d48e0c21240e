r"""Variants that need no forward pass of their own: the target's next-token distribution, reshaped.

With z = logits / temperature of the contract (-inf outside its kept set), a reshaped variant draws
from softmax(f(z)). Sampling and scoring read its density off the logits that give the target's.

* `Heated`: f(z) = z / h for the k largest, and below them z_k / h + g (z - z_k), z_k being the k-th
  largest: the likeliest tokens come close to each other, the long tail of a large vocabulary stays
  where it is. f is continuous, so that rounding at the k-th token moves no density by more than
  itself, and every token that the target can say keeps a density.
* `Reweighted`: f(z) = z + b with b_v > 0 for a few tokens, those of unsafe replies met before
  (`learn`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

#: Number k of tokens that are heated, and steepness g below them.
HEATED_TOKENS, TAPER = 20, 2.0


class Reshape(Protocol):
    """A map from the target's scaled logits to those of a variant."""

    @property
    def error_factor(self) -> float:
        """How far an error of 1 in each logit may move a reshaped one, up to a common shift."""
        ...

    def __call__(self, logits: Tensor, prompts: Sequence[str]) -> Tensor:
        """Reshaped `logits` (n, vocabulary), a new tensor; `prompts` are the ids of n prompts."""
        ...


@dataclass(frozen=True)
class Heated:
    """The `tokens` likeliest tokens at `temperature` times the contract's."""

    temperature: float
    tokens: int = HEATED_TOKENS
    taper: float = TAPER

    @property
    def error_factor(self) -> float:
        """That of a token below the k-th, which moves with both."""
        return 2 * self.taper + 1 / self.temperature

    def __call__(self, logits: Tensor, prompts: Sequence[str]) -> Tensor:
        """As the module says."""
        ranked = logits.topk(min(self.tokens, logits.shape[1]), dim=1).values
        # where fewer tokens are kept than are heated, all of them are
        edge = ranked.masked_fill(ranked.isneginf(), torch.inf).amin(1, keepdim=True)
        below = (logits - edge).clamp_(max=0)
        return (logits.maximum(edge) / self.temperature).add_(below, alpha=self.taper)


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Some tokens more likely: by prompt, their ids (m,) and what is added to their logits (m,).

    Prompts without a table of their own have that of "", and without either are left as they are.
    """

    tables: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def error_factor(self) -> float:
        """What is added is the same whatever the error."""
        return 1.0

    def __call__(self, logits: Tensor, prompts: Sequence[str]) -> Tensor:
        """As the module says."""
        shaped = logits.clone()
        nothing = self.tables.get("")
        for row, prompt in enumerate(prompts):
            table = self.tables.get(prompt, nothing)
            if table is not None:
                ids, added = table
                shaped[row, ids] += added.to(shaped.dtype)
        return shaped
