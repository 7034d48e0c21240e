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
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from tailbound.targets.decoding.distribution import Distribution, rows_at_once

PLAIN = Distribution()
"""That of reshaped logits, which hold the contract's temperature and kept set already."""

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

    def log_prob(
        self, logits: Tensor, total: Tensor, token: Tensor, prompts: Sequence[str]
    ) -> Tensor:
        """log q(token) in nats, fp64, (n,), under softmax of the reshaped `logits`.

        `total` (n,) fp64 is the log-sum-exp of `logits` (n, vocabulary); `token` (n,) int64.
        """
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

    def log_prob(
        self, logits: Tensor, total: Tensor, token: Tensor, prompts: Sequence[str]
    ) -> Tensor:
        """By the reshaped logits: heat moves them all."""
        rows = rows_at_once(logits)
        chunks = zip(torch.split(logits, rows), torch.split(token, rows), strict=True)
        return torch.cat([PLAIN.log_prob(self(chunk, ()), ids) for chunk, ids in chunks])


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

    def log_prob(
        self, logits: Tensor, total: Tensor, token: Tensor, prompts: Sequence[str]
    ) -> Tensor:
        """By the few logits that differ: log q = z + b - log(Z + sum_v (exp(b_v) - 1) exp(z_v))."""
        found = logits.gather(1, token[:, None])[:, 0].double() - total
        nothing = self.tables.get("")
        start = 0
        for prompt, same in groupby(prompts):
            rows = slice(start, start + sum(1 for _ in same))
            start = rows.stop
            table = self.tables.get(prompt, nothing)
            if table is None:
                continue
            ids, added = table
            chances = (logits[rows].index_select(1, ids).double() - total[rows, None]).exp_()
            own = torch.where(token[rows, None] == ids, added, 0.0).sum(1)
            found[rows] += own - (chances @ added.expm1()).log1p()
        return found
