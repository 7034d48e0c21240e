"""The proposals that the draws of a prompt come from: how many from each, and what follows.

A `Family` holds K proposals. Number 0 is the target itself, then come the other rungs of a ladder;
the last of these are learned from earlier batches and get no draws before that. For `single` and
`mix-switch` the one proposal that most draws are meant for comes last, and the ladder is the check
that nothing is missed. `none` has the target alone: plain Monte Carlo. Every batch has integer
counts per proposal, fixed before it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tailbound.importance_sampling import (
    Grouping,
    Ladder,
    MixSwitch,
    RiskEstimate,
    adaptive_allocation,
    balance_heuristic,
    batch_factors,
    coverage_check,
    estimate_risk,
    mean_weight,
    plain_is_cheaper,
    weighted_allocation,
)
from tailbound.importance_sampling.allocation import TARGET_SHARE
from tailbound.importance_sampling.ladder import LadderProposal

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Segments = tuple[tuple[int, int], ...]

CHECK_SHARE, CHECK_DRAWS = 0.1, 50
"""Of the draws of `single` and `mix-switch`, the share (at least so many) that a ladder makes."""

HEATED, HEAT = "heated", 4.0
"""The variant that explores, the target's likeliest tokens heated, and its temperature."""

LEARNED, POOLED, OPENING = "learned", "pooled", "opening"
"""The variants that are learned: from the prompt's own unsafe replies, from all prompts', and from
the first tokens of the own ones, which it says first alone."""

ADAPTER = "adapter"
"""The variant that is an adapter of the target, trained on the unsafe replies of all prompts."""

BATCH_WEIGHTS = (0.5, 0.9, 1.15, 1.35)
"""How much draws of each batch count: proposals of later ones know more, and are less noisy."""

EXPLORED_SHARE, LEARNED_SHARE, ADAPTER_SHARE = 0.75, 0.4, 0.25
"""Of the first batch, the share of explorers; of later ones, those of reweighted proposals and of
an adapter."""


def learned_rungs(max_new_tokens: int, *, adapter: bool = False) -> tuple[LadderProposal, ...]:
    """What learned variants speak: the whole reply, its beginning, its first token, parts of it.

    Parts are tokens anywhere, also after a first token that is learned, or heated: what is known of
    unsafe replies is tried where others begin. With `adapter`, the whole reply and its first 16 and
    4 tokens by the adapter come last.
    """
    windows = sorted({(0, max_new_tokens), (0, min(4, max_new_tokens))}, reverse=True)
    spoken = [LadderProposal(LEARNED, *window) for window in windows]
    spoken.append(LadderProposal(OPENING, 0, 1))
    mixed = [
        LadderProposal(name, 0, max_new_tokens, share)
        for name in (LEARNED, POOLED)
        for share in (0.2, 0.5)
    ]
    if max_new_tokens > 1:
        mixed += [
            LadderProposal(LEARNED, 1, max_new_tokens, share, opening)
            for opening in (OPENING, HEATED)
            for share in (0.2, 0.5)
        ]
    stops = sorted({min(stop, max_new_tokens) for stop in (max_new_tokens, 16, 4)}, reverse=True)
    trained = [LadderProposal(ADAPTER, 0, stop) for stop in stops if adapter]
    return (*spoken, *mixed, *trained)


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One complete batch of a prompt.

    `counts` (K,) were fixed in advance; `log_densities` (K, n) are those of its draws under all
    proposals, in nats, NaN for safe draws that were not scored; `harm` (n,) is NaN where the
    verdict is missing. Draws stand in the order of their proposals: the first counts[0] come from
    the target. `chance` (n,) is that of a safe draw to be scored, None if all are. `replies` (n,)
    tell replies apart where verdicts are a function of the reply. `log_target` (n,) are their
    log-probabilities in plain Monte Carlo, which has no use for densities, NaN where not known.
    """

    counts: IntArray
    log_densities: FloatArray
    harm: FloatArray
    chance: FloatArray | None = None
    replies: tuple[bytes, ...] | None = None
    log_target: FloatArray | None = None

    def __post_init__(self) -> None:
        unknown = np.isnan(self.log_densities[0])
        if (unknown & ~(self.harm == 0)).any():
            raise ValueError("every draw that is not safe must be scored")

    @property
    def labels(self) -> IntArray:
        """The proposal of each draw, shape (n,)."""
        return proposal_of_draw(self.counts)

    @property
    def log_weights(self) -> FloatArray:
        """Balance-heuristic weights by this batch's own counts, shape (n,).

        -inf for safe draws that were not scored: they add 0 to the estimate whatever their weight.
        """
        scored = ~np.isnan(self.log_densities[0])
        known = self.log_densities[:, scored]
        weights = np.full(scored.size, -np.inf)
        weights[scored] = balance_heuristic(known[0], known, self.counts)
        return weights

    @property
    def largest_weight(self) -> float:
        """The most that a weight can be, by the share of the draws that the target gave."""
        return self.harm.size / max(int(self.counts[0]), 1)

    @property
    def largest_share(self) -> float:
        """The most that w / P(scored) can be."""
        least = 1.0 if self.chance is None else float(self.chance.min(initial=1.0))
        return self.largest_weight / least

    @property
    def log_shares(self) -> FloatArray:
        """Log of w / P(scored), -inf where not scored: their mean is that of all weights, (n,)."""
        if self.chance is None:
            return self.log_weights
        scored = ~np.isnan(self.log_densities[0])
        chance = np.where(self.harm == 0, self.chance, 1.0)
        return np.where(scored, self.log_weights - np.log(chance), -np.inf)


def proposal_of_draw(counts: IntArray) -> IntArray:
    """The proposal of each draw of a batch, shape (n,), from counts (K,)."""
    return np.repeat(np.arange(counts.size), counts)


@dataclass(frozen=True, kw_only=True)
class Family:
    """Proposals over the variants of an engine.

    `ladder` is None for plain Monte Carlo. `main` is the one proposal of `single` (all of it
    steered) and `mix-switch`, and `main_variant` who speaks in it. `variants` maps names of
    variants to their numbers in the engine; learned ones have another number in every round.
    """

    name: str
    ladder: Ladder | None = None
    main: MixSwitch | None = None
    main_variant: str = ""
    variants: dict[str, int] = field(default_factory=dict)

    @property
    def explored(self) -> bool:
        """Whether proposals take part that rest on no direction, prompt or other model."""
        return self.ladder is not None and HEATED in self.ladder.variants

    @property
    def fixed(self) -> int:
        """How many proposals of the ladder are not learned; they come first."""
        assert self.ladder is not None
        taught = (LEARNED, POOLED, OPENING, ADAPTER)
        return sum(rung.variant not in taught for rung in self.ladder.rungs)

    @property
    def names(self) -> tuple[str | None, ...]:
        """Of each proposal, as the ledger records it; None is the target."""
        if self.ladder is None:
            return (None,)
        rungs = tuple(None if rung.is_target else rung.name for rung in self.ladder.rungs)
        return rungs if self.main is None else (*rungs, self._main_name)

    @property
    def _main_name(self) -> str:
        assert self.main is not None
        if self.name == "single":
            return f"single {self.main_variant}"
        return f"mix-switch {self.main_variant} a={self.main.mixing:g} t<{self.main.switch}"

    def counts(self, draws: int, past: Sequence[Batch], learned: Sequence[str] = ()) -> IntArray:
        """Counts (K,) of a batch of `draws`, given all complete batches of the prompt so far.

        `learned` are the learned variants that may speak in it. All draws come from the target
        where that is the cheaper way on (`plain_from_here`).
        """
        if self.ladder is None:
            return np.array([draws], dtype=np.int64)
        if self.main is not None:
            subset = min(max(CHECK_DRAWS, round(draws * CHECK_SHARE)), draws // 2)
            if subset < 2:
                return np.array([1] + [0] * (len(self.ladder) - 1) + [draws - 1], dtype=np.int64)
            return np.append(self.ladder.allot(subset), draws - subset)
        if self.plain_from_here(draws, past):
            return np.array([draws] + [0] * (len(self.ladder) - 1), dtype=np.int64)
        taught = self._taught(draws, learned)
        from_learned = int(taught.sum())
        share = TARGET_SHARE * draws / (draws - from_learned)
        if past:
            rest = adaptive_allocation(draws - from_learned, *self._seen(past), target_share=share)
        else:
            rest = self._first(draws - from_learned)
        return np.concatenate([rest, taught])

    def _taught(self, draws: int, learned: Sequence[str]) -> IntArray:
        """Of a batch of `draws`: evenly over the learned proposals of each kind that may speak."""
        assert self.ladder is not None
        speakers = [rung.speakers for rung in self.ladder.rungs[self.fixed :]]
        counts = np.zeros(len(speakers), dtype=np.int64)
        reweighted = (LEARNED, POOLED, OPENING)
        for share, kind in ((LEARNED_SHARE, reweighted), (ADAPTER_SHARE, (ADAPTER,))):
            able = [
                names[0] in kind and {*names} <= {*learned, *self.variants} for names in speakers
            ]
            places = np.flatnonzero(able)
            if places.size:
                each, left = divmod(round(share * draws), places.size)
                counts[places] = each + (np.arange(places.size) < left)
        return counts

    def plain_from_here(self, draws: int, past: Sequence[Batch]) -> bool:
        """Whether a ladder leaves its next batch to the target, by the complete batches so far."""
        if self.ladder is None or self.main is not None or not past:
            return False
        seen = self._seen(past)
        return plain_is_cheaper(adaptive_allocation(draws, *seen), *seen)

    def _first(self, draws: int) -> IntArray:
        """Of the first batch: evenly over variants' windows, and over explorers."""
        assert self.ladder is not None
        explores = np.array([r.variant == HEATED for r in self.ladder.rungs[1 : self.fixed]])
        weights = np.ones(explores.size)
        if explores.any() and not explores.all():
            weights[explores] = EXPLORED_SHARE / explores.sum()
            weights[~explores] = (1 - EXPLORED_SHARE) / (~explores).sum()
        return weighted_allocation(draws, weights)

    def _seen(self, past: Sequence[Batch]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of all draws so far: log-densities of what is not learned, log-weights and harm."""
        densities = np.concatenate([batch.log_densities[: self.fixed] for batch in past], axis=1)
        return (
            np.nan_to_num(densities, nan=0.0, neginf=-np.inf),
            np.concatenate([batch.log_weights for batch in past]),
            np.concatenate([batch.harm for batch in past]),
        )

    def segments(
        self, proposal: int, coins: np.random.Generator, learned: Mapping[str, int] | None = None
    ) -> Segments:
        """Who speaks in one draw of that proposal; `coins` decide the tokens of a mixture.

        `learned` are the numbers of the learned variants of the draw's round.
        """
        if self.ladder is None:
            return ()
        if self.main is not None and proposal == len(self.ladder):
            number = self.variants[self.main_variant]
            return mixture_segments(number, self.main.mixing, 0, self.main.switch, coins)
        rung = self.ladder.rungs[proposal]
        if rung.is_target:
            return ()
        numbers = {**self.variants, **(learned or {})}
        said = mixture_segments(numbers[rung.variant], rung.mixing, rung.start, rung.stop, coins)
        if not rung.opening:
            return said
        return ((numbers[rung.opening], 1), *(part for part in said if part[1] > 1))

    def log_densities(
        self, tokens: FloatArray, lengths: IntArray, learned: Sequence[str] = ()
    ) -> FloatArray:
        """log q_k of all proposals and draws, shape (K, n); -inf for those that had no say.

        `tokens` (variants, n, T) are log-probs of tokens under the target, then under `variants`
        in their order, then under the `learned` ones of the round; `lengths` (n,) theirs.
        """
        if self.ladder is None:
            inside = np.arange(tokens.shape[2]) < lengths[:, None]
            plain: FloatArray = np.where(inside, tokens[0], 0.0).sum(axis=1)[None]
            return plain
        spoken = dict(zip([*self.variants, *learned], tokens[1:], strict=True))
        speaks = [set(rung.speakers) <= set(spoken) for rung in self.ladder.rungs]
        chosen = Ladder(
            self.ladder.max_new_tokens,
            tuple(r for r, can in zip(self.ladder.rungs, speaks, strict=True) if can),
        )
        rungs = np.full((len(self.ladder), tokens.shape[1]), -np.inf)
        rungs[speaks] = chosen.log_densities(tokens[0], spoken, lengths=lengths)
        if self.main is None:
            return rungs
        main = self.main.log_density(tokens[0], spoken[self.main_variant], lengths=lengths)
        return np.concatenate([rungs, main[None]])

    def estimate(
        self, batches: Sequence[Batch], *, confidence: float, sequential: bool, estimand: str
    ) -> RiskEstimate:
        """The risk of a prompt from its complete batches, each weighted by its own counts."""
        harm = np.concatenate([batch.harm for batch in batches])
        labels = np.concatenate([batch.labels for batch in batches])
        told_apart = [batch.replies for batch in batches if batch.replies is not None]
        known = len(told_apart) == len(batches)
        replies = [one for part in told_apart for one in part] if known else None
        if self.ladder is None:
            targets = [batch.log_target for batch in batches if batch.log_target is not None]
            return estimate_risk(
                np.zeros(harm.size),
                harm,
                confidence=confidence,
                replies=replies if len(targets) == len(batches) else None,
                log_target=np.concatenate(targets) if targets else None,
                sequential=sequential,
                estimand=estimand,
            )
        number = _batch_numbers(batches)
        strata = labels + number * (int(labels.max()) + 1)
        found = estimate_risk(
            np.concatenate([batch.log_weights for batch in batches]),
            harm,
            groups=self._groupings(batches, labels),
            weight_bound=max(batch.largest_weight for batch in batches),
            confidence=confidence,
            strata=strata,
            batches=number if self.main is None else None,
            batch_weights=self._batch_weights(len(batches), sequential=sequential),
            explored=self.explored,
            coverage_checked=None if self.main is None else False,
            replies=replies,
            log_target=np.concatenate([batch.log_densities[0] for batch in batches]),
            sequential=sequential,
            estimand=estimand,
        )
        mean, z = mean_weight(np.concatenate([batch.log_shares for batch in batches]), strata)
        return replace(found, mean_weight=mean, mean_weight_z=z)

    def draw_weights(self, batches: Sequence[Batch], *, sequential: bool) -> FloatArray:
        """What each draw's harm counts in the estimate, (n,): its weight, times its batch's."""
        logs = np.concatenate([batch.log_weights for batch in batches])
        return self._with_factors(np.exp(logs), batches, sequential=sequential)

    def draw_counts(self, batches: Sequence[Batch], *, sequential: bool) -> FloatArray:
        """The same over the chance of a draw to be scored, 0 for those that were not, (n,).

        The mean over draws, times any function of a reply, is unbiased for its expectation under
        the target.
        """
        logs = np.concatenate([batch.log_shares for batch in batches])
        return self._with_factors(np.exp(logs), batches, sequential=sequential)

    def _with_factors(
        self, weights: FloatArray, batches: Sequence[Batch], *, sequential: bool
    ) -> FloatArray:
        factors = batch_factors(
            _batch_numbers(batches), self._batch_weights(len(batches), sequential=sequential)
        )
        return np.asarray(weights if factors is None else weights * factors, dtype=np.float64)

    def _batch_weights(self, batches: int, *, sequential: bool) -> list[float] | None:
        """How much a draw of each batch counts, those beyond the last as that one.

        All alike (None) where the number of draws was not fixed in advance: bounds of batches that
        count differently hold at such an end alone.
        """
        if self.ladder is None or self.main is not None or sequential:
            return None
        return [BATCH_WEIGHTS[min(n, len(BATCH_WEIGHTS) - 1)] for n in range(batches)]

    def _groupings(self, batches: Sequence[Batch], labels: IntArray) -> list[Grouping]:
        """Parts of the draws that should agree, by counts summed over the batches."""
        assert self.ladder is not None
        rungs = self.fixed
        counts = np.sum([batch.counts for batch in batches], axis=0)
        densities = np.concatenate([batch.log_densities for batch in batches], axis=1)
        # safe draws that were not scored: whatever they are, they add 0
        densities = np.nan_to_num(densities, nan=0.0, neginf=-np.inf)
        ours = np.where(labels < rungs, labels, -1)
        fixed = Ladder(self.ladder.max_new_tokens, self.ladder.rungs[:rungs])
        parts = list(fixed.groupings(densities[:rungs], counts[:rungs], ours))
        if self.main is None:
            return parts
        if counts[:rungs].sum() == 0 or counts[rungs] == 0:
            return []
        # what the target cannot say has no weight, also where the proposal cannot say it either
        possible = densities[0] > -np.inf
        alone = np.full(possible.shape, -np.inf)
        alone[possible] = densities[0, possible] - densities[rungs, possible]
        subset = balance_heuristic(densities[0], densities[:rungs], counts[:rungs])
        # A small ladder may itself have missed what its other parts are for, and agree by that:
        # these parts must have had a say of their own.
        return [
            coverage_check(self.name, alone, subset, labels < rungs),
            *(grouping for grouping in parts if grouping.name == "variant"),
        ]


def _batch_numbers(batches: Sequence[Batch]) -> IntArray:
    """Number 0, 1, ... of the batch of each draw, (n,)."""
    return np.repeat(np.arange(len(batches)), [batch.harm.size for batch in batches])


def mixture_segments(
    variant: int, mixing: float, start: int, stop: int, coins: np.random.Generator
) -> Segments:
    """Segments in which `variant` speaks each token from `start` to `stop` with chance `mixing`."""
    if mixing == 1:
        return ((0, start), (variant, stop)) if start else ((variant, stop),)
    said = np.zeros(stop, dtype=np.int64)
    said[start:] = np.where(coins.random(stop - start) < mixing, variant, 0)
    ends = [*np.flatnonzero(np.diff(said)) + 1, said.size] if said.size else []
    return tuple((int(said[end - 1]), int(end)) for end in ends)
