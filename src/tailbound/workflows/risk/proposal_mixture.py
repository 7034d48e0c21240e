"""The proposals that the draws of a prompt come from: how many from each, and what follows.

A `Family` holds K proposals. Number 0 is the target itself, then come the other rungs of a ladder,
and last, for `single` and `mix-switch`, the one proposal that most draws are meant for; there the
ladder is the check that nothing is missed. `none` has the target alone: plain Monte Carlo. Every
batch has integer counts per proposal, fixed before it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailbound.importance_sampling import (
    Grouping,
    Ladder,
    MixSwitch,
    RiskEstimate,
    adaptive_allocation,
    balance_heuristic,
    coverage_check,
    estimate_risk,
    mean_weight,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Segments = tuple[tuple[int, int], ...]

CHECK_SHARE, CHECK_DRAWS = 0.1, 50
"""Of the draws of `single` and `mix-switch`, the share (at least so many) that a ladder makes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One complete batch of a prompt.

    `counts` (K,) were fixed in advance; `log_densities` (K, n) are those of its draws under all
    proposals, in nats, NaN for safe draws that were not scored; `harm` (n,) is NaN where the
    verdict is missing. Draws stand in the order of their proposals: the first counts[0] come from
    the target. `chance` (n,) is that of a safe draw to be scored, None if all are.
    """

    counts: IntArray
    log_densities: FloatArray
    harm: FloatArray
    chance: FloatArray | None = None

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
    steered) and `mix-switch`. `variants` maps intensities to numbers of variants.
    """

    name: str
    ladder: Ladder | None = None
    main: MixSwitch | None = None
    variants: dict[float, int]

    @property
    def names(self) -> tuple[str | None, ...]:
        """Of each proposal, as the ledger records it; None is the target."""
        if self.ladder is None:
            return (None,)
        rungs = tuple(
            None if rung.is_target else f"ladder {rung.intensity:g} on {rung.start}-{rung.stop}"
            for rung in self.ladder.rungs
        )
        return rungs if self.main is None else (*rungs, self._main_name)

    @property
    def _main_name(self) -> str:
        assert self.main is not None
        if self.name == "single":
            return f"single {self.main.intensity:g}"
        return f"mix-switch {self.main.intensity:g} a={self.main.mixing:g} t<{self.main.switch}"

    def counts(self, draws: int, past: Sequence[Batch]) -> IntArray:
        """Counts (K,) of a batch of `draws`, given all complete batches of the prompt so far."""
        if self.ladder is None:
            return np.array([draws], dtype=np.int64)
        if self.main is not None:
            subset = min(max(CHECK_DRAWS, round(draws * CHECK_SHARE)), draws // 2)
            if subset < 2:
                return np.array([1] + [0] * (len(self.ladder) - 1) + [draws - 1], dtype=np.int64)
            return np.append(self.ladder.allot(subset), draws - subset)
        if not past:
            return self.ladder.allot(draws)
        return adaptive_allocation(
            draws,
            np.nan_to_num(
                np.concatenate([batch.log_densities for batch in past], axis=1),
                nan=0.0,
                neginf=-np.inf,
            ),
            np.concatenate([batch.log_weights for batch in past]),
            np.concatenate([batch.harm for batch in past]),
        )

    def segments(self, proposal: int, coins: np.random.Generator) -> Segments:
        """Who speaks in one draw of that proposal; `coins` decide the tokens of a mixture."""
        if self.ladder is None:
            return ()
        if self.main is not None and proposal == len(self.ladder):
            return self._mixed(self.main, coins)
        rung = self.ladder.rungs[proposal]
        if rung.is_target:
            return ()
        steered = (self.variants[rung.intensity], rung.stop)
        return ((0, rung.start), steered) if rung.start else (steered,)

    def _mixed(self, main: MixSwitch, coins: np.random.Generator) -> Segments:
        variant = self.variants[main.intensity]
        if main.mixing == 1:
            return ((variant, main.switch),)
        said = np.where(coins.random(main.switch) < main.mixing, variant, 0)
        ends = [*np.flatnonzero(np.diff(said)) + 1, said.size] if said.size else []
        return tuple((int(said[end - 1]), int(end)) for end in ends)

    def log_densities(self, tokens: FloatArray, lengths: IntArray) -> FloatArray:
        """log q_k of all proposals and draws, shape (K, n).

        `tokens` (variants, n, T) are log-probs of tokens under every variant, `lengths` (n,)
        theirs.
        """
        if self.ladder is None:
            inside = np.arange(tokens.shape[2]) < lengths[:, None]
            plain: FloatArray = np.where(inside, tokens[0], 0.0).sum(axis=1)[None]
            return plain
        steered = np.stack([tokens[self.variants[i]] for i in self.ladder.intensities])
        rungs = self.ladder.log_densities(tokens[0], steered, lengths=lengths)
        if self.main is None:
            return rungs
        hot = tokens[self.variants[self.main.intensity]]
        main = self.main.log_density(tokens[0], hot, lengths=lengths)
        return np.concatenate([rungs, main[None]])

    def estimate(
        self, batches: Sequence[Batch], *, confidence: float, sequential: bool, estimand: str
    ) -> RiskEstimate:
        """The risk of a prompt from its complete batches, each weighted by its own counts."""
        harm = np.concatenate([batch.harm for batch in batches])
        labels = np.concatenate([batch.labels for batch in batches])
        if self.ladder is None:
            return estimate_risk(
                np.zeros(harm.size),
                harm,
                confidence=confidence,
                sequential=sequential,
                estimand=estimand,
            )
        number = np.repeat(np.arange(len(batches)), [batch.harm.size for batch in batches])
        strata = labels + number * (int(labels.max()) + 1)
        found = estimate_risk(
            np.concatenate([batch.log_weights for batch in batches]),
            harm,
            groups=self._groupings(batches, labels),
            weight_bound=max(b.harm.size / max(int(b.counts[0]), 1) for b in batches),
            confidence=confidence,
            strata=strata,
            coverage_checked=None if self.main is None else False,
            sequential=sequential,
            estimand=estimand,
        )
        mean, z = mean_weight(np.concatenate([batch.log_shares for batch in batches]), strata)
        return replace(found, mean_weight=mean, mean_weight_z=z)

    def _groupings(self, batches: Sequence[Batch], labels: IntArray) -> list[Grouping]:
        """PromptSplit of the draws that should agree, by counts summed over the batches."""
        assert self.ladder is not None
        counts = np.sum([batch.counts for batch in batches], axis=0)
        densities = np.concatenate([batch.log_densities for batch in batches], axis=1)
        # safe draws that were not scored: whatever they are, they add 0
        densities = np.nan_to_num(densities, nan=0.0, neginf=-np.inf)
        if self.main is None:
            return list(self.ladder.groupings(densities, counts, labels))
        rungs = len(self.ladder)
        if counts[:rungs].sum() == 0 or counts[rungs] == 0:
            return []
        # what the target cannot say has no weight, also where the proposal cannot say it either
        possible = densities[0] > -np.inf
        alone = np.full(possible.shape, -np.inf)
        alone[possible] = densities[0, possible] - densities[rungs, possible]
        subset = balance_heuristic(densities[0], densities[:rungs], counts[:rungs])
        # A small ladder may itself have missed what its later windows are for, and agree by that:
        # these windows must have had a say of their own.
        ours = np.where(labels < rungs, labels, -1)
        windows = self.ladder.groupings(densities[:rungs], counts[:rungs], ours)
        return [
            coverage_check(self.name, alone, subset, labels < rungs),
            *(grouping for grouping in windows if grouping.name == "window"),
        ]
