"""From logits to tokens: temperature, top-k, top-p, two-level Gumbel-max, and the density of that.

With z = logits / temperature, the kept set K is the `top_k` largest z, and of these the shortest
run of largest ones whose probability (renormalised over the `top_k`) reaches `top_p`; equal logits
are ranked by token id. Then

    p(v) = exp(z_v) / sum_{k in K} exp(z_k)   for v in K,   0 outside.

A token is chosen in two steps. The vocabulary is cut into blocks of neighbouring ids, l_B is the
log of the sum of exp(z_k) over the kept tokens of block B, and the G are independent standard
Gumbel numbers, one per block and one per place within a block:

    block = argmax_B l_B + G_B,   token = argmax_{v in block} z_v + G_v.

The maximum of z + G falls on each index with probability softmax(z) (Gumbel 1954; Maddison et al.
2014, "A* sampling", section 2), at either level, so the token has density p exactly; and it takes
about 2 sqrt(vocabulary) random numbers in place of one per token.

Where logits carry a rounding error, a token is *ambiguous* if that could change it. If each logit,
up to a shift common to all, is off by at most e, so is each z_v by e / temperature and each l_B
(log-sum-exp is 1-Lipschitz). So a choice is ambiguous only where the two best scores lie within
2 e / temperature: with probability below that at each level, whatever the vocabulary. (The error of
a cumulative probability, to which an inverse CDF is subject, is met at every token.)

Rounding may also move the border of the kept set. The tokens that are kept with errors of any sign
and those that may be kept bound each l_B from below and above, and what is said above must hold
for these bounds; the sets must also agree in log-probability within 10 e / temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FP32_SLACK = 2e-6
"""What exponentials and differences in fp32 add to the error of a score; all sums are in fp64."""

FP64_SLACK = 1e-11
"""The same for fp64."""

CHUNK_ELEMENTS = 1 << 24
"""Logits handled at once: bounds the copies to some 100 MB at large vocabularies."""

CHUNK_ELEMENTS_CPU = 1 << 20
"""The same on a CPU: copies of 4 MB stay in its cache, and in memory that is used again."""

LIKE_DENSITIES = 5.0
"""Margins by which log-densities under two kept sets may differ that are taken for one."""

FIRST_RANKED = 256
"""Largest logits that are sorted at first to find the cut of top-p; eight times as many follow."""


def rows_at_once(logits: Tensor) -> int:
    """How many rows of `logits` (n, vocabulary) are handled at once; each has the same results."""
    limit = CHUNK_ELEMENTS_CPU if logits.device.type == "cpu" else CHUNK_ELEMENTS
    return max(1, limit // logits.shape[1])


def block_size(vocabulary: int) -> int:
    """Tokens in a block: the power of two at or above the square root of `vocabulary`."""
    root = math.isqrt(vocabulary - 1) + 1
    return 1 << (root - 1).bit_length()


def numbers_per_token(vocabulary: int) -> int:
    """Gumbel numbers that a choice takes: one per block, then one per place in a block."""
    size = block_size(vocabulary)
    return -(-vocabulary // size) + size


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Tokens of n rows: `token` (n,) int64, `log_prob` (n,) fp64, `ambiguous` (n,) bool."""

    token: Tensor
    log_prob: Tensor
    ambiguous: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The next-token distribution of a sampling contract.

    `error` is the largest error of a logit, up to a shift common to all logits of a row, against
    which choices are guarded; with 0 only that of the arithmetic here counts.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    error: float = 0.0

    @property
    def truncated(self) -> bool:
        """True where some tokens may have probability 0."""
        return self.top_p < 1 or self.top_k is not None

    def draw(self, logits: Tensor, gumbel: Tensor) -> Decision:
        """The token of each row of `logits` (n, vocabulary).

        `gumbel` (n, at least `numbers_per_token(vocabulary)`) holds standard Gumbel numbers, fp64;
        further columns are not used.
        """
        rows = rows_at_once(logits)
        if len(logits) <= rows:
            return self._draw(logits, gumbel)
        parts = [
            self._draw(a, g)
            for a, g in zip(torch.split(logits, rows), torch.split(gumbel, rows), strict=True)
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
        return self.log_prob_and_total(logits, token)[0]

    def log_prob_and_total(self, logits: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """`log_prob`, and the log-sum-exp of `scaled_logits`, each fp64 of shape (n,)."""
        rows = rows_at_once(logits)
        found, totals = [], []
        for chunk, ids in zip(torch.split(logits, rows), torch.split(token, rows), strict=True):
            chunk = _readable(chunk)
            largest, weight = self._weights(chunk)
            chosen = self._scaled(chunk.gather(1, ids[:, None]), largest)[:, 0]
            if self.truncated:
                mask = self._cut(chunk, largest, weight).kept(chunk)
                weight = weight.masked_fill_(~mask, 0)
                chosen = chosen.masked_fill(~mask.gather(1, ids[:, None])[:, 0], -torch.inf)
            total = weight.sum(1, dtype=torch.float64).log()
            found.append(chosen - total)
            totals.append(total + largest[:, 0].double() / self.temperature)
        return torch.cat(found), torch.cat(totals)

    def scaled_logits(self, logits: Tensor) -> Tensor:
        """Logits / temperature, -inf for tokens that are not kept: (n, vocabulary)."""
        logits = _readable(logits)
        scaled = logits if self.temperature == 1 else logits / self.temperature
        if not self.truncated:
            return scaled
        largest, weight = self._weights(logits)
        return scaled.masked_fill(~self._cut(logits, largest, weight).kept(logits), -torch.inf)

    def _weights(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The largest logit of each row (n, 1), and exp(z - max z) (n, vocabulary), in their dtype.

        In fp32 each exponential is rounded, at random, and everything else is summed in fp64: an
        error of about 1e-8 in the sum, at a third of the memory traffic of fp64.
        """
        largest = logits.amax(1, keepdim=True)
        weight = logits - largest
        if self.temperature != 1:
            weight /= self.temperature
        return largest, weight.exp_()

    def _scaled(self, logits: Tensor, largest: Tensor) -> Tensor:
        """z - max z in fp64."""
        return (logits.double() - largest.double()) / self.temperature

    def _margin(self, logits: Tensor) -> float:
        """Distance of two scores within which rounding could swap them: 2 e / temperature."""
        slack = FP32_SLACK if logits.dtype == torch.float32 else FP64_SLACK
        return 2 * (self.error / self.temperature + slack)

    def _draw(self, logits: Tensor, gumbel: Tensor) -> Decision:
        logits = _readable(logits)
        largest, weight = self._weights(logits)
        vocabulary = logits.shape[1]
        size = block_size(vocabulary)
        blocks = -(-vocabulary // size)
        of_block, of_place = gumbel[:, :blocks], gumbel[:, blocks : blocks + size]
        cut = self._cut(logits, largest, weight) if self.truncated else None
        mask = None if cut is None else cut.kept(logits)

        mass = _block_sums(weight if mask is None else weight * mask, size)
        block, gap = _best(mass.log() + of_block)
        inside = block * size + torch.arange(size, device=logits.device)
        place = inside.clamp(max=vocabulary - 1)
        scaled = self._scaled(logits.gather(1, place), largest)
        here = inside < vocabulary
        if mask is not None:
            here &= mask.gather(1, place)
        winner, inner_gap = _best(scaled.masked_fill(~here, -torch.inf) + of_place)
        token = place.gather(1, winner)
        margin = self._margin(logits)
        # not (gap < margin): NaN logits must not pass for certain ones
        ambiguous = ~((gap >= margin) & (inner_gap >= margin))
        if cut is not None and self.error > 0 and bool(cut.unsure.any()):
            rows = cut.unsure.nonzero()[:, 0]
            ambiguous[rows] |= self._ambiguous_at_the_cut(
                cut.of(rows), logits[rows], weight[rows], gumbel[rows], block[rows], token[rows]
            )
        return Decision(
            token=token[:, 0],
            log_prob=scaled.gather(1, winner)[:, 0] - mass.sum(1).log(),
            ambiguous=ambiguous,
        )

    def _ambiguous_at_the_cut(
        self,
        cut: _Cut,
        logits: Tensor,
        weight: Tensor,
        gumbel: Tensor,
        block: Tensor,
        token: Tensor,
    ) -> Tensor:
        """Whether tokens at the border of the kept set could change the choice, (n,) bool."""
        vocabulary, margin = logits.shape[1], self._margin(logits)
        size = block_size(vocabulary)
        surely, perhaps = logits >= cut.surely_from, logits >= cut.perhaps_from
        low, high = _block_sums(weight * surely, size), _block_sums(weight * perhaps, size)
        of_block = gumbel[:, : low.shape[1]]
        own = (low.log() + of_block).gather(1, block)
        others = (high.log() + of_block).scatter(1, block, -torch.inf).amax(1, keepdim=True)
        certain = own - others >= margin
        kept_more = high.sum(1, keepdim=True).log() - low.sum(1, keepdim=True).log()
        certain &= kept_more <= LIKE_DENSITIES * margin

        inside = block * size + torch.arange(size, device=logits.device)
        place = inside.clamp(max=vocabulary - 1)
        here = (inside < vocabulary) & perhaps.gather(1, place)
        score = logits.gather(1, place).double() / self.temperature
        score = score.masked_fill(~here, -torch.inf) + gumbel[:, low.shape[1] :][:, :size]
        winner, gap = _best(score)
        certain &= (place.gather(1, winner) == token) & (gap[:, None] >= margin)
        certain &= surely.gather(1, token)
        return ~certain[:, 0]

    def _cut(self, logits: Tensor, largest: Tensor, weight: Tensor) -> _Cut:
        """Where top-k and top-p cut each row."""
        rows, vocabulary = logits.shape
        limit = vocabulary if self.top_k is None else min(self.top_k, vocabulary)
        # one more than can be kept, to see the gap at the cut
        enough = min(limit + 1, vocabulary)
        if self.top_p == 1:
            return self._cut_ranked(logits.topk(enough, dim=1).values, limit, largest, None)[0]
        ranked = enough if self.top_k is not None else min(FIRST_RANKED, enough)
        total = weight.sum(1, keepdim=True, dtype=torch.float64) if self.top_k is None else None
        left = torch.arange(rows, device=logits.device)
        found: _Cut | None = None
        while True:
            part = logits if len(left) == rows else logits[left]
            cut, reached = self._cut_ranked(
                part.topk(ranked, dim=1).values,
                limit,
                largest[left],
                None if total is None else total[left],
            )
            found = cut if found is None else found.updated(left, cut)
            if ranked == enough or bool(reached.all()):
                return found
            left = left[~reached]
            ranked = min(8 * ranked, enough)

    def _cut_ranked(
        self, ranked: Tensor, limit: int, largest: Tensor, total: Tensor | None
    ) -> tuple[_Cut, Tensor]:
        """The cut, given the largest logits of each row in descending order, (n, m).

        `total` (n, 1) is the weight of all that top-k leaves, None where `ranked` holds all of it.
        Also whether the cut lies within `ranked`, (n,).

        With F the probability before a rank, errors of z move F by at most (max e - min e) F (1 -
        F), and by as much of the token's own probability where it swaps places with a neighbour.
        """
        inner = ranked[:, :limit]
        margin = self._margin(ranked)
        counts = torch.full((len(ranked), 1), inner.shape[1], device=ranked.device)
        least = most = kept = counts
        reached = torch.ones(len(ranked), dtype=torch.bool, device=ranked.device)
        if self.top_p < 1:
            probability = self._scaled(inner, largest).exp_()
            probability /= probability.sum(1, keepdim=True) if total is None else total
            before = probability.cumsum(1) - probability
            error = margin * (before * (1 - before) + probability)
            kept = _count(before < self.top_p)
            least = _count(before < self.top_p - error)
            most = _count(before < self.top_p + error)
            reached = ~(before[:, -1] < self.top_p + error[:, -1])
        rounding = margin * self.temperature
        last = ranked.gather(1, kept - 1)
        highest, lowest = ranked.gather(1, least - 1).double(), ranked.gather(1, most - 1).double()
        beyond = most.clamp(max=ranked.shape[1] - 1)
        close = lowest - ranked.gather(1, beyond).double() <= rounding
        unsure = (least < most) | (close & (most < ranked.shape[1]))
        cut = _Cut(
            size=kept,
            last=last,
            surely_from=torch.where(unsure, highest + rounding, last.double()),
            perhaps_from=torch.where(unsure, lowest - rounding, last.double()),
            unsure=unsure[:, 0],
        )
        return cut, reached


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """Which logits of each of n rows are kept.

    `size` (n, 1) tokens down to the logit `last` (n, 1). Whatever the rounding, those from
    `surely_from` (n, 1) on are kept and none below `perhaps_from` (n, 1); where these two are not
    the same cut, `unsure` (n,).
    """

    size: Tensor
    last: Tensor
    surely_from: Tensor
    perhaps_from: Tensor
    unsure: Tensor

    def kept(self, logits: Tensor) -> Tensor:
        """Whether each token is kept, (n, vocabulary); equal logits by token id."""
        mask = logits >= self.last
        if bool((mask.sum(1, keepdim=True) > self.size).any()):
            level = logits == self.last
            room = self.size - (logits > self.last).sum(1, keepdim=True)
            mask &= ~(level & (level.cumsum(1) > room))
        return mask

    def of(self, rows: Tensor) -> _Cut:
        """The cuts of some rows."""
        return _Cut(
            size=self.size[rows],
            last=self.last[rows],
            surely_from=self.surely_from[rows],
            perhaps_from=self.perhaps_from[rows],
            unsure=self.unsure[rows],
        )

    def updated(self, rows: Tensor, other: _Cut) -> _Cut:
        """With the cuts of `rows` taken from `other`."""
        return _Cut(
            size=self.size.index_copy(0, rows, other.size),
            last=self.last.index_copy(0, rows, other.last),
            surely_from=self.surely_from.index_copy(0, rows, other.surely_from),
            perhaps_from=self.perhaps_from.index_copy(0, rows, other.perhaps_from),
            unsure=self.unsure.index_copy(0, rows, other.unsure),
        )


def _readable(logits: Tensor) -> Tensor:
    """Half precision as fp32, which holds it exactly."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _block_sums(weight: Tensor, size: int) -> Tensor:
    """Sums of `weight` (n, vocabulary) over blocks of `size`, (n, blocks) fp64; the last may be
    short."""
    whole = weight.shape[1] // size * size
    shape = (len(weight), whole // size, size)
    strides = (weight.stride(0), size * weight.stride(1), weight.stride(1))
    sums = weight.as_strided(shape, strides).sum(2, dtype=torch.float64)
    if whole == weight.shape[1]:
        return sums
    return torch.cat([sums, weight[:, whole:].sum(1, keepdim=True, dtype=torch.float64)], 1)


def _best(score: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the largest score of each row (n, 1), and its lead over the second (n,)."""
    two = score.topk(min(2, score.shape[1]), dim=1)
    first = two.values[:, 0]
    if score.shape[1] == 1:
        return two.indices, torch.where(first.isnan(), first, torch.inf)
    return two.indices[:, :1], first - two.values[:, 1]


def _count(condition: Tensor) -> Tensor:
    """How many of each row hold, at least 1, (n, 1)."""
    return condition.sum(1, keepdim=True).clamp(min=1)
