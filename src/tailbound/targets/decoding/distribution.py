"""From logits to tokens: temperature, top-k, top-p, inverse CDF, and the density of all that.

With z = logits / temperature, the kept set K is the `top_k` largest z, and of these the shortest
run of largest ones whose probability (renormalised over the `top_k`) reaches `top_p`; equal logits
are ranked by token id. Then

    p(v) = exp(z_v) / sum_{k in K} exp(z_k)   for v in K,   0 outside,

and a uniform u gives the first token, in vocabulary order, whose cumulative probability exceeds u.
All of it is computed in fp64 from the logits as the model made them.

Where the logits carry a rounding error, a token is *ambiguous* if such an error could change it.
An edge F of a token's interval is the probability of a set of tokens, and errors e_v of z move it
by at most

    |log-odds(F') - log-odds(F)| <= max e - min e,  so about  |F' - F| <= (max e - min e) F (1 - F).

A token is ambiguous if u lies within 4 `tolerance` F (1 - F) of an edge (`tolerance` at F = 1/2),
or if errors of that size could change the kept set.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 2e-5
"""How far fp32 may move a cumulative probability of 1/2 at temperature 1: errors of the logits
that lie within 8e-5 of each other."""

FP64_SLACK = 1e-11
"""What fp64 sums over a vocabulary may be off by."""

CHUNK_ELEMENTS = 1 << 24
"""Logits handled at once: bounds the fp64 copies to a few hundred MB at large vocabularies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Tokens of n rows: `token` (n,) int64, `log_prob` (n,) fp64, `ambiguous` (n,) bool."""

    token: Tensor
    log_prob: Tensor
    ambiguous: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The next-token distribution of a sampling contract."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    tolerance: float = TOLERANCE

    @property
    def error_spread(self) -> float:
        """Largest difference between the errors of two z; a temperature below 1 magnifies it."""
        return 4 * self.tolerance * max(1.0, 1.0 / self.temperature)

    @property
    def truncated(self) -> bool:
        """True where some tokens may have probability 0."""
        return self.top_p < 1 or self.top_k is not None

    def draw(self, logits: Tensor, uniform: Tensor) -> Decision:
        """The token of each row of `logits` (n, vocabulary) at its `uniform` (n,) fp64."""
        rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
        if len(logits) <= rows:
            return self._draw(logits, uniform)
        parts = [
            self._draw(a, u)
            for a, u in zip(torch.split(logits, rows), torch.split(uniform, rows), strict=True)
        ]
        return Decision(
            token=torch.cat([part.token for part in parts]),
            log_prob=torch.cat([part.log_prob for part in parts]),
            ambiguous=torch.cat([part.ambiguous for part in parts]),
        )

    def log_prob(self, logits: Tensor, token: Tensor) -> Tensor:
        """log p(token) in nats, fp64, shape (n,): -inf for tokens that are not kept.

        `logits` (n, vocabulary), `token` (n,) int64.
        """
        rows = max(1, CHUNK_ELEMENTS // logits.shape[1])
        parts = []
        for chunk, ids in zip(torch.split(logits, rows), torch.split(token, rows), strict=True):
            if self.temperature == 1 and not self.truncated and chunk.dtype == torch.float32:
                parts.append(_log_softmax_at(chunk, ids))
                continue
            scaled = self._scale(chunk)
            if self.truncated:
                scaled = self._truncate(scaled)[0]
            chosen = scaled.gather(1, ids[:, None])[:, 0]
            parts.append(chosen - scaled.logsumexp(1))
        return torch.cat(parts)

    def _scale(self, logits: Tensor) -> Tensor:
        scaled = logits.double()
        return scaled if self.temperature == 1 else scaled / self.temperature

    def _draw(self, logits: Tensor, uniform: Tensor) -> Decision:
        scaled = self._scale(logits)
        ambiguous = None
        if self.truncated:
            scaled, ambiguous = self._truncate(scaled)
        largest = scaled.amax(1, keepdim=True)
        weight = (scaled - largest).exp_()
        cumulative = weight.cumsum(1)
        total = cumulative[:, -1]
        level = uniform * total
        token = torch.searchsorted(cumulative, level[:, None], right=True)
        token.clamp_(max=logits.shape[1] - 1)
        upper = cumulative.gather(1, token)[:, 0]
        lower = upper - weight.gather(1, token)[:, 0]
        chosen = scaled.gather(1, token)[:, 0]
        # not (margin >= ...): NaN logits must not pass for certain ones
        near_edge = ~(level - lower >= self._tolerance(lower, total))
        near_edge |= ~(upper - level >= self._tolerance(upper, total))
        return Decision(
            token=token[:, 0],
            log_prob=chosen - largest[:, 0] - total.log(),
            ambiguous=near_edge if ambiguous is None else near_edge | ambiguous,
        )

    def _tolerance(self, edge: Tensor, total: Tensor | float) -> Tensor:
        """How far errors of the logits may move the unnormalised cumulative weight `edge`."""
        return self.error_spread * edge * (1 - edge / total) + FP64_SLACK * total

    def _truncate(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """Top-k and top-p: `scaled` with -inf outside the kept set, and whether rounding matters.

        The set is ambiguous where the last token kept and the first one dropped could swap, or
        where the cumulative probability at the cut could fall on the other side of `top_p`.
        """
        size = scaled.shape[1]
        limit = size if self.top_k is None else min(self.top_k, size)
        # one more than is kept, to see the gap at the cut
        descending = scaled.topk(min(limit + 1, size), dim=1).values
        kept = torch.full((len(scaled), 1), limit, device=scaled.device)
        ambiguous = torch.zeros(len(scaled), dtype=torch.bool, device=scaled.device)
        if self.top_p < 1:
            cumulative = descending[:, :limit].softmax(1).cumsum(1)
            kept = (cumulative[:, :-1] < self.top_p).sum(1, keepdim=True) + 1
            after = cumulative.gather(1, kept - 1)
            before = cumulative.gather(1, (kept - 2).clamp_(min=0))
            close = ((after - self.top_p).abs() < self._tolerance(after, 1.0)) & (kept < limit)
            close |= ((self.top_p - before).abs() < self._tolerance(before, 1.0)) & (kept > 1)
            ambiguous = close[:, 0]
        last = descending.gather(1, kept - 1)
        dropped = descending.gather(1, kept.clamp(max=descending.shape[1] - 1))
        ambiguous |= ((last - dropped <= self.error_spread) & (kept < size))[:, 0]

        above = scaled > last
        level = scaled == last
        room = kept - above.sum(1, keepdim=True)
        keep = above | (level & (level.cumsum(1) <= room))
        return scaled.masked_fill(~keep, -torch.inf), ambiguous


def _log_softmax_at(logits: Tensor, token: Tensor) -> Tensor:
    """log softmax(logits)[token] of fp32 rows in fp64, with a third of the memory traffic.

    Each exponential is rounded to fp32, at random, and summed in fp64: an error of about 1e-8.
    """
    largest = logits.amax(1, keepdim=True)
    total = (logits - largest).exp_().sum(1, dtype=torch.float64)
    chosen = logits.gather(1, token[:, None])[:, 0].double()
    found: Tensor = chosen - largest[:, 0].double() - total.log()
    return found
