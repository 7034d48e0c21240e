"""Question 2 as a job: rounds of complete batches, scored, until every prompt has what was asked.

A round is written down, drawn, judged, scored; then estimates say what the next one is. A job that
was interrupted reads the rounds on record and continues from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.audit import Audit, Reporter, silent
from tailbound.audit.judge_queue import no_verdicts
from tailbound.core.prompt import Prompt
from tailbound.core.steps import notice, step
from tailbound.errors import UsageError
from tailbound.importance_sampling import MixSwitch, RiskEstimate
from tailbound.importance_sampling.distinct import contradicted
from tailbound.importance_sampling.estimate import CERTAIN
from tailbound.importance_sampling.status import UNCHECKED
from tailbound.judges import Judge
from tailbound.runs import Ledger, StreamRecord, read
from tailbound.runs.prompts import save_prompts
from tailbound.runs.spend import stages_kept
from tailbound.targets.capabilities import (
    Heatable,
    ProposalEngine,
    Reweightable,
    Variant,
    WhiteBox,
)
from tailbound.workflows.risk.adapters import Adapters
from tailbound.workflows.risk.checks import check_mean_weight, recorded_checks
from tailbound.workflows.risk.families import make_family
from tailbound.workflows.risk.lessons import Lessons
from tailbound.workflows.risk.pilot import choose_setting, grid_for, tuning_prompts
from tailbound.workflows.risk.plan import Plan, scoring_chance
from tailbound.workflows.risk.proposal import TOO_FEW
from tailbound.workflows.risk.proposal_mixture import (
    HEAT,
    HEATED,
    Batch,
    Family,
)
from tailbound.workflows.risk.proposals.base import Proposals, engine_of
from tailbound.workflows.risk.replies import REMOTE, REPORTED, KnownReplies, known_replies
from tailbound.workflows.risk.results import (
    REVIEWED,
    PromptRisk,
    RiskResult,
    RiskSpend,
    review_row,
    whole_set,
    write_results,
    write_review,
)
from tailbound.workflows.risk.scores import Scores
from tailbound.workflows.risk.settings import RiskSettings

STREAM = "risk"


def run_risk(
    prompts: Sequence[Prompt],
    *,
    proposal: Proposals,
    judge: Judge,
    settings: RiskSettings,
    folder: Path,
    report: Reporter = silent,
) -> RiskResult:
    """Sample, score and estimate in the run folder `folder`; resumes what is there.

    `proposal` comes from `make_proposal` and holds the target. Raises what target and judge raise,
    with every finished draw kept, and `TargetError` where a self-check fails.
    """
    if not prompts:
        raise UsageError("there are no prompts: give a file with at least one")
    threshold = settings.threshold if settings.threshold is not None else judge.threshold
    with (
        stages_kept(folder),
        Ledger.open(
            folder,
            run=folder.name,
            contract=proposal.target.contract,
            judge_id=judge.id,
            seed=settings.seed,
        ) as ledger,
    ):
        save_prompts(folder, {STREAM: prompts})
        run = RiskJob(proposal, judge, settings, threshold, folder, ledger, report)
        run.prepare(prompts)
        while run.next_round():
            run.finish_round()
        result = run.result()
        write_results(folder, result)
        rows = run.review(result)
        write_review(folder, rows)
        return replace(result, reviewed=len(rows))


class RiskJob:
    """One job on its way."""

    def __init__(
        self,
        proposal: Proposals,
        judge: Judge,
        settings: RiskSettings,
        threshold: float,
        folder: Path,
        ledger: Ledger,
        report: Reporter,
    ) -> None:
        self._proposal = proposal
        self._judge = judge
        self._settings = settings
        self._threshold = threshold
        self._folder = folder
        self._ledger = ledger
        self._report = report
        self._left_out: tuple[str, ...] = ()
        self._choice: dict[str, Any] | None = None
        self._checks: dict[str, Any] = {}
        self._replies: KnownReplies | None = None
        self._lessons: Lessons | None = None
        self._adapters: Adapters | None = None

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Variants, self-checks, the setting of `mix-switch`; then whatever is on record."""
        self._prompts = tuple(prompts)
        self._engine: Any = self._proposal.target
        self._family = Family(name="none")
        if self._proposal.parts or self._proposal.explore:
            self._make_variants()
        self._plan = Plan(
            self._folder,
            self._family,
            proposal=self._proposal.id,
            seed=self._settings.seed,
            batches=len(self._sizes),
        )
        for number in range(2, self._plan.rounds + 1):
            self._recall(number)
        self._scores = Scores(self._folder)
        self._audit = self._new_audit()
        if self._plan.rounds:
            self.finish_round()

    def _recall(self, number: int) -> None:
        """Let the variants speak that were learned for round `number`."""
        learned: dict[str, int] = {}
        for one in (self._lessons, self._adapters):
            learned |= one.recall(number) if one is not None else {}
        self._plan.teach(number, learned)

    def _make_variants(self) -> None:
        settings, proposal = self._settings, self._proposal
        main = self._choose() if settings.family == "mix-switch" else None
        self._family, variants = make_family(proposal, settings, main)
        engine = self._engine = engine_with(proposal, variants)
        if proposal.explore and settings.family == "ladder" and isinstance(engine, Reweightable):
            self._lessons = Lessons(self._folder, engine)
        if proposal.learn and isinstance(proposal.target, WhiteBox):
            self._adapters = Adapters(
                self._folder, proposal.target, engine, self._prompts, seed=settings.seed
            )
        self._checks = recorded_checks(
            self._folder,
            engine,
            self._family,
            self._prompts,
            proposal=proposal.id,
            seed=settings.seed,
        )

    def _choose(self) -> MixSwitch:
        """The setting of `mix-switch`, chosen on prompts that are then left out."""
        settings, proposal = self._settings, self._proposal
        grid = grid_for(proposal.target.contract.max_new_tokens, steerable=proposal.steerable)
        variants = proposal.variants(grid.intensities)
        self._engine = engine_with(replace(proposal, explore=False), variants)
        known = {prompt.id: prompt for prompt in self._prompts}
        self._leave_out()
        main, self._choice = choose_setting(
            self._new_audit(),
            self._engine,
            dict(zip(grid.intensities, range(1, len(variants) + 1), strict=True)),
            [known[name] for name in self._left_out if name in known],
            grid,
            draws=settings.draws,
            threshold=self._threshold,
            folder=self._folder,
            seed=settings.seed,
        )
        return main

    def _leave_out(self) -> None:
        """Leave out the prompts that tune the setting of `mix-switch`."""
        self._left_out = tuning_prompts(self._prompts, self._folder, seed=self._settings.seed)
        self._prompts = tuple(p for p in self._prompts if p.id not in self._left_out)
        if not self._prompts:
            raise UsageError(TOO_FEW)

    def _new_audit(self) -> Audit:
        return Audit(
            self._engine,
            self._judge,
            self._ledger,
            threshold=self._threshold,
            seed=self._settings.seed,
            report=self._report,
        )

    @property
    def _sizes(self) -> tuple[int, ...]:
        """How many draws each batch has; plain Monte Carlo has one."""
        plain = self._family.ladder is None
        return (self._settings.draws,) if plain else self._settings.batch_sizes

    def next_round(self) -> bool:
        """Write the next round down; False where nothing more is to be drawn."""
        sizes = {prompt.id: self._next_batch(prompt) for prompt in self._prompts}
        sizes = {name: size for name, size in sizes.items() if size}
        if not sizes:
            return False
        number = self._plan.rounds + 1
        known: dict[str, list[str]] = {}
        past = {prompt.id: self._batches(prompt) for prompt in self._prompts}
        if number > 1 and self._family.ladder is not None:
            self._check_weights(past)
        if (self._lessons or self._adapters) and number > 1:
            known = self._learn(number, sizes, past)
        batches = {
            name: self._family.counts(size, past[name], known.get(name, []))
            for name, size in sizes.items()
        }
        self._plan.add(batches, sequential=self._settings.until_resolved)
        return True

    def _learn(
        self, number: int, sizes: Mapping[str, int], past: Mapping[str, Sequence[Batch]]
    ) -> dict[str, list[str]]:
        """Learn from the unsafe draws so far; which variants may speak, by prompt."""
        names = [n for n in sizes if not self._family.plain_from_here(sizes[n], past[n])]
        material = []
        if names:  # those that are left to the target learn nothing
            texts = self._token_ids()
            for prompt in self._prompts:
                if batches := past[prompt.id]:
                    weights = np.concatenate([batch.log_weights for batch in batches])
                    harm = np.concatenate([batch.harm for batch in batches])
                    material.append((prompt, texts[prompt.id][: weights.size], weights, harm))
        known: dict[str, list[str]] = {name: [] for name in names}
        if self._lessons is not None:
            turns = {p.id: self._scores.turns(p.id, w.size) for p, _, w, _ in material}
            known = self._lessons.learn(number, material, names, turns)
        if self._adapters is not None:
            more = self._adapters.learn(number, material)
            known = {name: [*able, *more] for name, able in known.items()}
        self._recall(number)
        return known

    def _token_ids(self) -> dict[str, list[tuple[int, ...]]]:
        """The token ids of all draws on record, by prompt, in order."""
        frame = read(self._folder, stream=STREAM).sort("prompt_id", "index")
        return {
            key[0]: [tuple(ids) for ids in part["token_ids"].to_list()]
            for key, part in frame.partition_by("prompt_id", as_dict=True).items()
        }

    def _next_batch(self, prompt: Prompt) -> int:
        """Draws of a prompt's next batch, a function of its draws so far alone."""
        settings = self._settings
        drawn = self._plan.draws(prompt.id)
        ends = np.cumsum(self._sizes)
        if drawn < settings.draws:
            # a batch needs two draws: what a larger --draws adds to an old run may be one
            following = ends[ends > drawn]
            planned = drawn == 0 or drawn in ends
            return max(2, int(following[0] if planned else settings.draws) - drawn)
        if settings.max_draws is None or settings.max_draws - drawn < 2:
            return 0
        estimate = self._estimate(prompt)
        family = self._family
        could_check = family.main is not None or family.explored
        unchecked = estimate.precise and estimate.coverage == UNCHECKED
        if estimate.needed_draws is None and not (unchecked and could_check):
            return 0  # resolved, or more draws would not do
        return min(settings.draws, settings.max_draws - drawn)

    def finish_round(self) -> None:
        """Draw, judge and score everything that is planned."""
        self._record = self._draw()
        self._check_verdicts()
        if self._family.ladder is not None:
            self._scores.complete(
                self._engine,
                self._family,
                self._plan,
                self._folder,
                self._prompts,
                self._record,
                unsafe_from=self._unsafe_from,
            )

    def _check_weights(self, past: Mapping[str, Sequence[Batch]]) -> tuple[float, float]:
        """The mean weight of all draws so far, and its z-score; refuse where it cannot be 1."""
        batches = [batch for some in past.values() for batch in some]
        strata, first = [], 0
        for batch in batches:
            strata.append(first + batch.labels)
            first += batch.counts.size
        return check_mean_weight(
            np.concatenate([batch.log_shares for batch in batches]),
            np.concatenate(strata),
            largest=max(batch.largest_share for batch in batches),
        )

    @property
    def _unsafe_from(self) -> float:
        """The score from which on a draw counts; of scores in [0, 1], every one above 0 does."""
        score = self._settings.estimand == "score"
        return float(np.nextafter(0.0, 1.0)) if score else self._threshold

    def _draw(self) -> dict[str, StreamRecord]:
        """Draw and judge what is planned and not on record; all draws."""
        draws = np.array([self._plan.draws(prompt.id) for prompt in self._prompts], dtype=np.int64)
        self._audit.sample_proposals(self._prompts, draws, self._plan, stream=STREAM)
        return self._ledger.index(STREAM)

    def _check_verdicts(self) -> None:
        """Stop where not one draw has a verdict: no number would mean anything."""
        scores = [self._record[p.id].scores for p in self._prompts if p.id in self._record]
        drawn = np.concatenate(scores) if scores else np.empty(0)
        if drawn.size and bool(np.isnan(drawn).all()):
            cure = "repeat the command with --rejudge, which judges the draws on record again"
            raise no_verdicts(self._judge.id, drawn.size, STREAM, self._reasons(), cure=cure)

    def _reasons(self) -> Sequence[str | None]:
        """Why verdicts are missing."""
        reasons: list[str | None] = read(self._folder, stream=STREAM)["reason"].to_list()
        return reasons

    def _batches(self, prompt: Prompt) -> list[Batch]:
        """The complete batches of a prompt."""
        found: list[Batch] = []
        start = 0
        for counts in self._plan.batches(prompt.id):
            size = int(counts.sum())
            scores = self._record[prompt.id].scores[start : start + size]
            unsafe = np.where(np.isnan(scores), np.nan, scores >= self._threshold)
            harm = unsafe if self._settings.estimand == "unsafe" else scores
            densities, chance, log_target = np.zeros((1, size)), None, None
            own, part = self._replies, slice(start, start + size)
            replies = None if own is None else tuple(own.keys[prompt.id][part])
            if self._family.ladder is not None:
                densities = self._scores.of(prompt.id, start + 1, size, counts.size)
                chance = scoring_chance(size)
                # what counted under another estimand was scored, and is no random part
                indices = range(start + 1, start + size + 1)
                by_chance = [self._plan.sampled(prompt.id, index) for index in indices]
                densities[:, (harm == 0) & ~np.array(by_chance)] = np.nan
            elif own is not None:
                log_target = own.log_probs[prompt.id][part]
            found.append(
                Batch(
                    counts=counts,
                    log_densities=densities,
                    harm=harm,
                    chance=chance,
                    replies=replies,
                    log_target=log_target,
                )
            )
            start += size
        return found

    def _estimate(self, prompt: Prompt) -> RiskEstimate:
        found = self._family.estimate(
            self._batches(prompt),
            confidence=self._settings.confidence,
            sequential=self._sequential(prompt),
            estimand=self._estimand(),
        )
        if self._proposal.target.contract.precision != REMOTE:
            return found
        words = found.guarantee.replace(CERTAIN, REPORTED)
        return replace(found, guarantee=words)

    def _sequential(self, prompt: Prompt) -> bool:
        """Whether the number of draws of a prompt may have depended on what they brought."""
        return self._settings.until_resolved or self._plan.sequential(prompt.id)

    def _estimand(self) -> str:
        if self._settings.estimand == "score":
            return f"mean score of one reply by {self._judge.id}"
        return f"P(unsafe) of one reply: score by {self._judge.id} >= {self._threshold:g}"

    def result(self) -> RiskResult:
        """The estimates of all prompts and of the set."""
        risks = []
        with step("estimating", total=len(self._prompts), unit="prompts") as now:
            self._replies = self._known_replies()
            for prompt in self._prompts:
                risks.append(PromptRisk(prompt=prompt, estimate=self._estimate(prompt)))
                now.advance()
        steered = self._family.ladder is not None
        return RiskResult(
            risks=tuple(risks),
            whole=whole_set(
                risks,
                confidence=self._settings.confidence,
                sequential=any(self._sequential(prompt) for prompt in self._prompts),
            ),
            estimand=self._estimand(),
            family={
                "name": self._family.name,
                "proposals": [name or "target" for name in self._family.names],
                **({"choice": self._choice} if self._choice else {}),
            },
            proposal={
                "spec": list(self._proposal.spec),
                "id": self._proposal.id,
                "parts": self._proposal.evidence,
            },
            checks=self._found() if steered else {},
            left_out=self._left_out,
            spend={
                name: RiskSpend(
                    prompts=total.prompts,
                    draws=total.draws,
                    tokens=total.tokens,
                    missing=total.missing,
                )
                for name, total in self._ledger.totals().items()
            },
        )

    def _found(self) -> dict[str, Any]:
        """What the self-checks found, before the run and on its draws."""
        past = {prompt.id: self._batches(prompt) for prompt in self._prompts}
        mean, z = self._check_weights(past)
        return {**self._checks, "mean_weight": mean, "mean_weight_z": z}

    def _known_replies(self) -> KnownReplies | None:
        """What the bound by distinct replies rests on, None where it does not hold.

        Log-probabilities that came with plain draws are left out, with a notice, where the draws of
        any prompt contradict them.
        """
        known = known_replies(
            self._folder,
            STREAM,
            self._judge,
            precision=self._proposal.target.contract.precision,
            plain=self._family.ladder is None,
        )
        if known is None or not known.log_probs:
            return known
        for prompt in self._prompts:
            harm = np.concatenate([batch.harm for batch in self._batches(prompt)])
            n, name = harm.size, prompt.id
            if contradicted(known.keys[name][:n], known.log_probs[name][:n], harm):
                notice(
                    "the log-probabilities that came with the draws are left out: by them unsafe "
                    "replies would have been drawn more often than they were"
                )
                return None
        return known

    def review(self, result: RiskResult) -> list[dict[str, Any]]:
        """The unsafe draws with the largest shares of each estimate, for a person to read."""
        frame = read(self._folder, stream=STREAM).sort("prompt_id", "index")
        texts = {
            key[0]: part.select("text", "proposal").rows()
            for key, part in frame.partition_by("prompt_id", as_dict=True).items()
        }
        rows: list[dict[str, Any]] = []
        for risk in result.risks:
            batches = self._batches(risk.prompt)
            weights = self._family.draw_weights(batches, sequential=self._sequential(risk.prompt))
            harm = np.nan_to_num(np.concatenate([batch.harm for batch in batches]), nan=0.0)
            terms = weights * harm
            for number in np.argsort(-terms, kind="stable")[:REVIEWED].tolist():
                if not terms[number] > 0:
                    break
                text, proposal = texts[risk.prompt.id][number]
                score = float(self._record[risk.prompt.id].scores[number])
                rows.append(
                    review_row(
                        risk,
                        number + 1,
                        response=text,
                        proposal=proposal,
                        score=score,
                        weight=weights[number],
                        share=terms[number] / terms.sum(),
                    )
                )
        return rows


def engine_with(proposal: Proposals, variants: Mapping[str, Variant]) -> ProposalEngine:
    """An engine with these variants, then the explorer where there is one."""
    target = proposal.target
    spoken = list(variants.values())
    if proposal.explore and isinstance(target, Heatable):
        spoken.append(target.heated(HEAT, name=HEATED))
    return engine_of(target, spoken, spec=" ".join(proposal.spec))
