"""Rounds of draws, judged at their beginnings, until every repeat of every prompt has ended.

A round is written down, drawn, judged whole by the audit, judged at its beginnings; what the judge
said is written down, and says what the next round is. A job that was interrupted reads what is on
record and continues from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.audit import Audit, Reporter, silent
from tailbound.audit.judge_queue import no_verdicts, verdicts_of
from tailbound.core.contract import Beginning, Draw
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import ContractMismatchError, UsageError
from tailbound.importance_sampling import ScoredPath, estimate_splitting
from tailbound.judges import Exchange, Judge
from tailbound.runs import Ledger
from tailbound.runs.draws import scan
from tailbound.runs.prompts import save_prompts
from tailbound.runs.spend import stages_kept
from tailbound.targets import Target
from tailbound.targets.capabilities import Continuing
from tailbound.workflows.risk.proposal import write_record
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
from tailbound.workflows.risk.settings import RiskSettings
from tailbound.workflows.risk.splitting.check import (
    SPLITTING,
    check_judge,
    check_options,
    check_target,
)
from tailbound.workflows.risk.splitting.particles import Particles
from tailbound.workflows.risk.splitting.record import (
    Round,
    read_round,
    read_scores,
    write_round,
    write_scores,
)
from tailbound.workflows.risk.splitting.settings import SplittingOptions

STREAM = "splitting"
CONTINUED = "splitting: continued"
"""What the ledger calls the distribution of a draw that is not plain."""

_AT_ONCE = 256


def run_splitting(
    prompts: Sequence[Prompt],
    *,
    target: Target,
    judge: Judge,
    settings: RiskSettings,
    options: SplittingOptions | None = None,
    folder: Path,
    report: Reporter = silent,
) -> RiskResult:
    """Sample and estimate in the run folder `folder` by splitting; resumes what is there.

    Raises `UsageError` for a target that cannot continue a reply, a judge without grades and
    options that do not go together, `ContractMismatchError` where the run on record has other
    particles, and what target and judge raise, with every finished draw kept.
    """
    options = options or SplittingOptions()
    if not prompts:
        raise UsageError("there are no prompts: give a file with at least one")
    check_options(settings, options)
    check_judge(judge)
    check_target(target)
    with (
        stages_kept(folder),
        Ledger.open(
            folder,
            run=folder.name,
            contract=target.contract,
            judge_id=judge.id,
            seed=settings.seed,
        ) as ledger,
    ):
        save_prompts(folder, {STREAM: prompts})
        write_record(folder, spec=[SPLITTING], id=SPLITTING)
        run = SplittingJob(prompts, target, judge, settings, options, folder, ledger, report)
        run.recall()
        while run.next_round():
            pass
        result = run.result()
        write_results(folder, result)
        rows = run.review(result)
        write_review(folder, rows)
        return replace(result, reviewed=len(rows))


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A beginning that is to be judged, and where its score goes."""

    exchange: Exchange
    scores: np.ndarray[Any, np.dtype[np.float64]]
    place: int


class SplittingJob:
    """One job on its way; a `ContinuingScript` for the audit."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        target: Any,
        judge: Judge,
        settings: RiskSettings,
        options: SplittingOptions,
        folder: Path,
        ledger: Ledger,
        report: Reporter,
    ) -> None:
        self._target, self._judge, self._settings = target, judge, settings
        self._folder, self._ledger = folder, ledger
        self._options = options
        self._every = options.every(target.contract.max_new_tokens)
        threshold = settings.threshold if settings.threshold is not None else judge.threshold
        self._threshold = threshold
        self._states = {
            prompt.id: Particles(
                prompt, particles=options.particles, top=threshold, seed=settings.seed
            )
            for prompt in prompts
        }
        self._scores: dict[str, dict[int, float]] = {name: {} for name in self._states}
        self._rounds = 0
        self._audit = Audit(
            target,
            judge,
            ledger,
            threshold=threshold,
            seed=settings.seed,
            report=report,
        )

    # --- the script ---------------------------------------------------------------------------

    def segments(self, prompt_id: str, index: int) -> tuple[tuple[int, int], ...]:
        """The target itself speaks."""
        return ()

    def proposal(self, prompt_id: str, index: int) -> str | None:
        """First particles are plain draws, all others are not."""
        return CONTINUED if self._states[prompt_id].births[index - 1].parent else None

    def beginning(self, prompt_id: str, index: int) -> Beginning | None:
        """What that draw continues."""
        return self._states[prompt_id].beginning(self._continuing, index, self._every)

    @property
    def _continuing(self) -> Continuing:
        target: Continuing = self._target
        return target

    # --- rounds -------------------------------------------------------------------------------

    def recall(self) -> None:
        """Take up what is on record."""
        while (held := read_round(self._folder, self._rounds + 1)) is not None:
            asked = (self._options.particles, self._every)
            if (held.particles, held.score_every) != asked:
                raise ContractMismatchError(
                    f"{self._folder} holds a run with --particles {held.particles} --score-every "
                    f"{held.score_every}, not {asked[0]} and {asked[1]}: use another --out, or the "
                    "same options as before"
                )
            births = {name: own for name, own in held.births.items() if name in self._states}
            for name, own in births.items():
                self._states[name].recall(own)
            self._rounds += 1
            scores = read_scores(self._folder, self._rounds)
            if scores is None:
                self._finish(list(births))
            else:
                for name in births:
                    self._states[name].add(scores.get(name, []))
        self._read(list(self._states.values()))

    def next_round(self) -> bool:
        """Plan, draw and judge a round; False where every repeat has ended."""
        repeats = self._options.repeats(self._settings)
        births = {name: state.next_births(repeats) for name, state in self._states.items()}
        births = {name: own for name, own in births.items() if own}
        if not births:
            return False
        planned = Round(particles=self._options.particles, score_every=self._every, births=births)
        write_round(self._folder, self._rounds + 1, planned)
        self._rounds += 1
        for name, own in births.items():
            self._states[name].plan(own)
        self._finish(list(births))
        return True

    def _finish(self, names: Sequence[str]) -> None:
        """Draw and judge what is planned, as far as that is not on record."""
        states = [self._states[name] for name in names]
        self._read(states)  # what is continued
        self._audit.sample_proposals(
            [state.prompt for state in states],
            np.array([state.total for state in states]),
            self,
            stream=STREAM,
        )
        self._read(states)
        self._check_verdicts(states)
        found = self._judge_beginnings(states)
        held = {state.prompt.id: own for state, own in zip(states, found, strict=True)}
        write_scores(self._folder, self._rounds, held)
        for state in states:
            state.add(held[state.prompt.id])

    def _read(self, states: Sequence[Particles]) -> None:
        """Draws that are on record and not known yet, with the verdict on each whole reply."""
        import polars as pl

        due = [state.unknown for state in states if len(state.draws) < state.total]
        if not due:
            return
        self._ledger.flush()
        frame = (
            scan(self._folder)
            .filter(pl.col("stream") == STREAM, pl.col("index") >= min(due))
            .select(
                *("prompt_id", "index", "text", "token_ids", "tokens"),
                *("finish_reason", "score", "reason"),
            )
            .collect()
        )
        wanted = {state.prompt.id: state for state in states}
        for name, index, text, ids, tokens, ended, score, reason in frame.iter_rows():
            state = wanted.get(name)
            if state is None or index in state.draws:
                continue
            state.draws[index] = Draw(
                prompt_id=name,
                stream=STREAM,
                index=index,
                token_ids=tuple(ids or ()),
                text=text,
                finish_reason=ended,
                log_prob=float("nan"),
                counted=tokens,
                missing=reason,
            )
            self._scores[name][index] = float("nan") if score is None else score

    def _check_verdicts(self, states: Sequence[Particles]) -> None:
        """Raise `UnreachableError` where no draw of the first round has a verdict."""
        scores = [s for state in states for s in self._scores[state.prompt.id].values()]
        if self._rounds == 1 and all(score != score for score in scores):
            reasons = [draw.missing for state in states for draw in state.draws.values()]
            raise no_verdicts(self._judge.id, len(reasons), STREAM, reasons)

    def _judge_beginnings(self, states: Sequence[Particles]) -> list[list[ScoredPath]]:
        """The scores of every new draw of the round: of its beginnings, then of the whole."""
        waiting: list[_Waiting] = []
        found = [[self._path(state, number, waiting) for number in state.new] for state in states]
        with step("judging replies on their way", total=len(waiting), unit="texts") as now:
            for start in range(0, len(waiting), _AT_ONCE):
                some = waiting[start : start + _AT_ONCE]
                verdicts = verdicts_of(self._judge, [one.exchange for one in some])
                for one, verdict in zip(some, verdicts, strict=True):
                    one.scores[one.place] = np.nan if verdict.score is None else verdict.score
                now.advance(len(some))
        return found

    def _path(self, state: Particles, number: int, waiting: list[_Waiting]) -> ScoredPath:
        """The new beginnings of one draw, of which those with a text are added to `waiting`."""
        draw, cut = state.draws[number], state.births[number - 1].cut
        known = self._continuing.beginnings(state.prompt, draw, every=self._every)
        own = [one for one in known if one.size > cut]
        scores = np.zeros(len(own) + 1)
        for place, one in enumerate(own):
            if one.missing is not None:
                scores[place] = np.nan
            elif one.text:  # where nothing is said yet, nothing is unsafe
                waiting.append(_Waiting(Exchange(state.prompt, one.text), scores, place))
        scores[-1] = self._scores[state.prompt.id][number]
        # one more than can be cut off, where a server returns characters: the end of the reply
        whole = len(draw.token_ids) or len(draw.text) + 1
        cuts = [one.size for one in own]
        return ScoredPath(np.array([*cuts, whole], dtype=np.int64), scores)

    # --- results ------------------------------------------------------------------------------

    def _harm(self, state: Particles) -> np.ndarray[Any, np.dtype[np.float64]]:
        """h of every draw, in order; NaN where the verdict is missing."""
        own = self._scores[state.prompt.id]
        scores = np.array([own[number] for number in range(1, state.total + 1)])
        if self._settings.estimand == "score":
            return scores
        return np.where(np.isnan(scores), np.nan, scores >= self._threshold)

    def result(self) -> RiskResult:
        """The estimates from everything that was drawn."""
        settings = self._settings
        words = (
            "E[score] of one reply"
            if settings.estimand == "score"
            else f"P(score >= {self._threshold:g}) of one reply"
        )
        risks = [
            PromptRisk(
                prompt=state.prompt,
                estimate=estimate_splitting(
                    state.results(self._harm(state)),
                    confidence=settings.confidence,
                    estimand=words,
                ),
            )
            for state in self._states.values()
        ]
        totals = self._ledger.totals()
        shared = sum(self._shared(state) for state in self._states.values())
        evidence = {
            "particles": self._options.particles,
            "repeats": self._options.repeats(settings),
            "score_every": self._every,
            "rounds": self._rounds,
        }
        return RiskResult(
            risks=tuple(risks),
            whole=whole_set(risks, confidence=settings.confidence),
            estimand=words,
            family={"name": SPLITTING, "proposals": ["target"]},
            proposal={"spec": [SPLITTING], "id": SPLITTING, "parts": [evidence]},
            checks={},
            left_out=(),
            spend={
                name: RiskSpend(
                    prompts=total.prompts,
                    draws=total.draws,
                    tokens=max(0, total.tokens - (shared if name == STREAM else 0)),
                    missing=total.missing,
                )
                for name, total in totals.items()
            },
        )

    def _shared(self, state: Particles) -> int:
        """Tokens on record that were given, and not drawn."""
        total = 0
        for birth in state.births:
            if not birth.parent:
                continue
            parent = state.draws[birth.parent]
            if parent.token_ids:
                total += birth.cut
            elif parent.text:
                total += round((parent.counted or 0) * birth.cut / len(parent.text))
        return total

    def review(self, result: RiskResult) -> list[dict[str, Any]]:
        """The unsafe draws that weigh most in each estimate, for a person to read."""
        rows: list[dict[str, Any]] = []
        for risk in result.risks:
            state = self._states[risk.prompt.id]
            harm = np.nan_to_num(self._harm(state), nan=0.0)
            terms = {n: w * harm[n - 1] for n, w in state.weights().items() if w * harm[n - 1] > 0}
            total = sum(terms.values())
            for number in sorted(terms, key=lambda n: (-terms[n], n))[:REVIEWED]:
                parent = state.births[number - 1].parent
                rows.append(
                    review_row(
                        risk,
                        number,
                        response=state.draws[number].text,
                        proposal=CONTINUED if parent else None,
                        score=self._scores[risk.prompt.id][number],
                        weight=state.weights()[number] * state.total,
                        share=terms[number] / total,
                    )
                )
        return rows
