"""Weighted draws of the prompts of a bound: planned, drawn, judged and scored as those of a risk.

They differ from those of `tailbound risk` in one thing. There the number of draws from each
proposal is fixed; the calibration curve takes products of draws, so here each draw chooses its
proposal independently, with fixed shares, and all draws of a prompt have the same distribution:

    X = h p(y) / sum_k share_k q_k(y),        E[X] = P(unsafe).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import Audit, Reporter, silent
from tailbound.core.prompt import Prompt
from tailbound.importance_sampling import adaptive_allocation, balance_heuristic
from tailbound.judges import Judge
from tailbound.missing_verdicts import unsafe_or_missing
from tailbound.runs import Ledger, StreamRecord
from tailbound.workflows.risk.checks import check_mean_weight, recorded_checks
from tailbound.workflows.risk.families import make_family
from tailbound.workflows.risk.job import engine_with
from tailbound.workflows.risk.plan import Plan, scoring_chance
from tailbound.workflows.risk.proposal_mixture import Family
from tailbound.workflows.risk.proposals.base import Proposals
from tailbound.workflows.risk.scores import Scores
from tailbound.workflows.risk.settings import RiskSettings

STREAM = "weighted"
PARTS = 10_000
"""Shares of proposals are whole multiples of one part in so many."""

LEAST_SCORED = 1
"""Of the safe draws of a prompt about so many are scored, or a tenth: only to check weights."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptDraws:
    """The weighted draws of one prompt, n of them.

    `terms` (n,) are X, missing verdicts counted as unsafe; `missing` (n,) says where; `log_weights`
    (n,) are -inf for safe draws that were not scored, `chance` is that of a safe one to be scored;
    `log_densities` (K, n) are NaN for those.
    """

    terms: FloatArray
    missing: NDArray[np.bool_]
    log_weights: FloatArray
    log_densities: FloatArray
    chance: float

    @property
    def log_shares(self) -> FloatArray:
        """Log of w / P(scored): their mean is that of all weights, 1 in expectation, (n,)."""
        unsafe = self.terms > 0
        return np.where(unsafe, self.log_weights, self.log_weights - np.log(self.chance))


class WeightedSampler:
    """The weighted draws of one run."""

    def __init__(
        self,
        proposal: Proposals,
        judge: Judge,
        ledger: Ledger,
        prompts: Sequence[Prompt],
        *,
        folder: Path,
        threshold: float,
        seed: int,
        report: Reporter = silent,
    ) -> None:
        """Make the proposals' engine and check it on the first of `prompts`.

        Raises what the self-checks of `tailbound risk` raise.
        """
        self._folder, self._ledger, self._threshold = folder, ledger, threshold
        self._proposal, self._seed, self._report, self._judge = proposal, seed, report, judge
        self.checks: dict[str, Any] = {}
        self._engine: Any = proposal.target
        self._family = Family(name="none")
        if proposal.parts or proposal.explore:
            self._make_variants(prompts)
        self.plan = Plan(
            folder, self._family, proposal=proposal.id, seed=seed, least_scored=LEAST_SCORED
        )
        self.scores = Scores(folder)
        self._record: Mapping[str, StreamRecord] = {}

    def _make_variants(self, prompts: Sequence[Prompt]) -> None:
        self._family, variants = make_family(
            self._proposal, RiskSettings(draws=PARTS, seed=self._seed), None
        )
        self._engine = engine_with(self._proposal, variants)
        self.checks = recorded_checks(
            self._folder,
            self._engine,
            self._family,
            prompts,
            proposal=self._proposal.id,
            seed=self._seed,
        )

    @property
    def judge_id(self) -> str:
        """The judge's id."""
        return self._judge.id

    @property
    def explored(self) -> bool:
        """Whether heated versions of the target take part."""
        return self._family.explored

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the proposals, the target first."""
        return tuple(name or "target" for name in self._family.names)

    def first_shares(self) -> FloatArray:
        """The shares of the proposals before anything is known, (K,): those of `risk`."""
        return self._family.counts(PARTS, []) / PARTS

    def draw(self, number: int, prompts: Sequence[Prompt], counts: IntArray) -> None:
        """Round `number` (from 1): draw, judge and score `counts` (prompts, K), or what is planned.

        The plan of a round that is on record stays as it is.
        """
        if self.plan.rounds < number:
            rows = zip(prompts, counts, strict=True)
            self.plan.add({prompt.id: row for prompt, row in rows if row.sum()})
        drawn = [prompt for prompt in prompts if self.plan.draws(prompt.id)]
        self._sample(drawn)

    def _sample(self, prompts: Sequence[Prompt]) -> None:
        audit = Audit(
            self._engine,
            self._judge,
            self._ledger,
            threshold=self._threshold,
            seed=self._seed,
            report=self._report,
        )
        sizes = np.array([self.plan.draws(prompt.id) for prompt in prompts], dtype=np.int64)
        audit.sample_proposals(prompts, sizes, self.plan, stream=STREAM)
        self._record = self._ledger.index(STREAM)
        if self._family.ladder is not None:
            self.scores.complete(
                self._engine,
                self._family,
                self.plan,
                self._folder,
                prompts,
                self._record,
                unsafe_from=self._threshold,
                stream=STREAM,
            )

    def found(self, prompt: Prompt, shares: FloatArray) -> PromptDraws:
        """The draws of a prompt, whose proposals were chosen with `shares` (K,)."""
        size = self.plan.draws(prompt.id)
        if not size:
            none = np.empty(0)
            return PromptDraws(
                terms=none,
                missing=none.astype(bool),
                log_weights=none,
                log_densities=np.empty((shares.size, 0)),
                chance=1.0,
            )
        verdicts = self._record[prompt.id].scores[:size]
        harm = unsafe_or_missing(verdicts, self._threshold)
        weights, densities, chance = np.zeros(size), np.zeros((shares.size, size)), 1.0
        if self._family.ladder is not None:
            densities = self.scores.of(prompt.id, 1, size, shares.size)
            chance = float(scoring_chance(size, LEAST_SCORED)[0])
            scored = ~np.isnan(densities[0])
            weights = np.full(size, -np.inf)
            weights[scored] = balance_heuristic(densities[0, scored], densities[:, scored], shares)
        return PromptDraws(
            terms=np.where(harm, np.exp(weights), 0.0),
            missing=np.isnan(verdicts),
            log_weights=weights,
            log_densities=densities,
            chance=chance,
        )

    def better_shares(
        self, draws: Sequence[PromptDraws], p_hat: FloatArray, shares: FloatArray
    ) -> FloatArray:
        """Shares that make later draws least noisy, from those of training prompts, (K,).

        They minimise the mean over prompts of E[X^2] / p^2; `p_hat` (prompts,) stand for p. The
        target keeps its share, and every proposal a quarter of an even one.
        """
        if self._family.ladder is None:
            return shares
        used = shares > 0
        harm = np.concatenate([(one.terms > 0) / p for one, p in zip(draws, p_hat, strict=True)])
        densities = np.concatenate([one.log_densities for one in draws], axis=1)
        counts = adaptive_allocation(
            PARTS,
            np.nan_to_num(densities[used], nan=0.0, neginf=-np.inf),
            np.concatenate([one.log_weights for one in draws]),
            harm,
        )
        found = np.zeros(shares.size)
        found[used] = counts / PARTS
        return found


def pooled_mean_weight(draws: Sequence[PromptDraws], shares: FloatArray) -> tuple[float, float]:
    """The mean weight of all draws from proposals in `shares` (K,), and its z-score.

    Raises `TargetError` where it cannot be 1.
    """
    found = np.concatenate([one.log_shares for one in draws])
    least = min((one.chance for one in draws), default=1.0)
    largest = 1 / (float(shares[0]) * least)
    return check_mean_weight(found, np.zeros(found.size, dtype=np.int64), largest=largest)
