"""Sampling, judging and recording at once: the target asks for work, verdicts flow back.

The target runs in the calling thread and pulls its requests from here; every draw that it yields
goes to the judging queue, and every verdict to the ledger and to the schedule, which then knows
better what is still worth drawing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailbound.audit.judge_queue import GRACE_SECONDS, JudgeQueue
from tailbound.audit.progress import Progress, Reporter, silent
from tailbound.audit.schedule import Schedule, Script
from tailbound.core.contract import Draw, DrawRequest, Verdict
from tailbound.core.outside import clean_text, count, is_clean, shown
from tailbound.core.prompt import Prompt
from tailbound.core.steps import charged_to
from tailbound.errors import TargetError
from tailbound.executors import Executor, executor
from tailbound.judges import Judge
from tailbound.missing_verdicts import missing_counts_as_unsafe
from tailbound.runs import Ledger
from tailbound.targets import Target

#: How the draws of a stream ended: after a fixed number, or at the first event.
FIXED, FIRST_EVENT = "fixed", "first-event"

_REPORT_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class FixedCounts:
    """What a fixed number of draws per prompt gave; all arrays of shape (prompts,)."""

    draws: NDArray[np.int64]
    unsafe: NDArray[np.int64]
    missing: NDArray[np.int64]

    @property
    def unsafe_or_missing(self) -> NDArray[np.int64]:
        """Unsafe draws with the missing verdicts among them."""
        return missing_counts_as_unsafe(self.unsafe, self.missing)


@dataclass(frozen=True, eq=False)
class Followed:
    """Where each prompt that was followed stopped; all arrays of shape (prompts,).

    `first_event` is the index of the first unsafe or missing draw, 0 where there is none up to
    `horizons`; `by_missing` says where that event is a missing verdict.
    """

    horizons: NDArray[np.int64]
    first_event: NDArray[np.int64]
    by_missing: NDArray[np.bool_]


class Audit:
    """One target, one judge and one ledger at work, by the executor of the run."""

    def __init__(
        self,
        target: Target,
        judge: Judge,
        ledger: Ledger,
        *,
        threshold: float,
        seed: int,
        width: int = 256,
        report: Reporter = silent,
    ) -> None:
        self._target = target
        self._judge = judge
        self._ledger = ledger
        self._threshold = threshold
        self._seed = seed
        self._width = width
        self._report = report
        self._executor: Executor = executor()
        self._tallies: dict[str, Counters] = {}

    @property
    def judge_id(self) -> str:
        """The judge's id."""
        return self._judge.id

    def sample_fixed(self, prompts: Sequence[Prompt], draws: int, *, stream: str) -> FixedCounts:
        """Exactly `draws` draws of each prompt, whatever they bring."""
        schedule = Schedule(
            prompts,
            stream=stream,
            threshold=self._threshold,
            stop_at_event=False,
            width=1,
            record=self._ledger.index(stream),
        )
        schedule.extend(np.arange(len(prompts)), np.full(len(prompts), draws))
        self._collect(schedule, FIXED)

        record = self._ledger.index(stream)
        unsafe = np.zeros(len(prompts), dtype=np.int64)
        missing = np.zeros(len(prompts), dtype=np.int64)
        for i, prompt in enumerate(prompts):
            scores = record[prompt.id].scores[record[prompt.id].indices <= draws]
            missing[i] = np.isnan(scores).sum()
            unsafe[i] = (scores >= self._threshold).sum()
        return FixedCounts(np.full(len(prompts), draws, dtype=np.int64), unsafe, missing)

    def sample_proposals(
        self, prompts: Sequence[Prompt], draws: NDArray[np.int64], script: Script, *, stream: str
    ) -> None:
        """Draws 1 .. draws[i] of each prompt i, each spoken as `script` says, put on record."""
        schedule = Schedule(
            prompts,
            stream=stream,
            threshold=self._threshold,
            stop_at_event=False,
            width=1,
            record=self._ledger.index(stream),
            script=script,
        )
        schedule.extend(np.arange(len(prompts)), draws)
        self._collect(schedule, FIXED)

    def follow(self, prompts: Sequence[Prompt], *, stream: str) -> Following:
        """Follow prompts to their first event, in as many steps as the caller likes."""
        schedule = Schedule(
            prompts,
            stream=stream,
            threshold=self._threshold,
            stop_at_event=True,
            width=self._width * self._executor.parallel,
            record=self._ledger.index(stream),
        )
        return Following(self, schedule)

    def _collect(self, schedule: Schedule, stopping: str) -> None:
        """Draw, judge and record until the schedule has nothing left."""
        if not schedule.remaining():
            return
        judge, threads = self._executor.judge(self._judge)
        with charged_to(schedule.stream), JudgeQueue(judge, workers=threads) as queue:
            tally = self._tally(schedule.stream)
            exchange = _Exchange(schedule, queue, self._ledger, stopping, tally, self._report)
            try:
                for draw in self._executor.sample(self._target, exchange, seed=self._seed):
                    exchange.submit(draw)
            except Exception:  # the target failed: what has been drawn is judged and kept
                exchange.finish()
                raise
            except BaseException:  # an interrupt: likewise, but not by a judge that hangs
                exchange.finish(within=GRACE_SECONDS)
                raise
            exchange.finish()

    def _tally(self, stream: str) -> Counters:
        if stream not in self._tallies:
            known = self._ledger.totals().get(stream)
            self._tallies[stream] = Counters(reused=known.draws if known else 0)
        return self._tallies[stream]


@dataclass(slots=True)
class Counters:
    """What this process has done for one stream."""

    reused: int
    draws: int = 0
    tokens: int = 0
    unsafe: int = 0
    missing: int = 0
    seconds: float = 0.0


class Following:
    """Prompts on the way to their first event: what `calibrate` calls `observe`."""

    def __init__(self, audit: Audit, schedule: Schedule) -> None:
        self._audit = audit
        self._schedule = schedule
        self._horizons = np.zeros(len(schedule.prompts), dtype=np.int64)

    def __call__(
        self, indices: NDArray[np.int64], horizons: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Follow the prompts at `indices` to `horizons`; the first event of each, 0 for none."""
        positions = np.asarray(indices, dtype=np.int64)
        asked = np.asarray(horizons, dtype=np.int64)
        self._horizons[positions] = np.maximum(self._horizons[positions], asked)
        self._schedule.extend(positions, asked)
        self._audit._collect(self._schedule, FIRST_EVENT)
        return self._schedule.first_events(positions)

    def outcome(self) -> Followed:
        """Where every prompt stands."""
        everyone = np.arange(len(self._schedule.prompts))
        return Followed(
            self._horizons.copy(),
            self._schedule.first_events(everyone),
            self._schedule.stopped_by_missing(),
        )


class _Exchange:
    """The `DrawSource` of one stream, with the way back of its verdicts."""

    def __init__(
        self,
        schedule: Schedule,
        queue: JudgeQueue,
        ledger: Ledger,
        stopping: str,
        tally: Counters,
        report: Reporter,
    ) -> None:
        self._schedule = schedule
        self._queue = queue
        self._ledger = ledger
        self._stopping = stopping
        self._report = report
        self._prompts = {prompt.id: prompt for prompt in schedule.prompts}
        self._tally = tally
        self._clock = time.monotonic()
        self._reported = 0.0

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        """Requests for the target, in the light of every verdict that has come back."""
        self._record(self._queue.ready())
        requests = self._schedule.next_requests(limit)
        while wait and not requests and self._queue.pending:
            self._record(self._queue.wait())
            requests = self._schedule.next_requests(limit)
        self._tell()
        return requests

    def submit(self, draw: Draw) -> None:
        """Have a finished draw judged."""
        prompt = self._prompts.get(draw.prompt_id)
        if prompt is None:
            raise TargetError(
                f"the target gave a draw of prompt {shown(draw.prompt_id)}, which it was not asked "
                "for: finished draws are kept"
            )
        if isinstance(draw.text, str) and not is_clean(draw.text):
            draw = replace(draw, text=clean_text(draw.text))
        self._tally.draws += 1
        self._tally.tokens += count(draw.tokens) or 0
        self._queue.submit(draw, prompt)

    def finish(self, *, within: float | None = None) -> None:
        """Wait for the verdicts that are still out, and put everything on record.

        With `within`, no longer than until none has come for so many seconds.
        """
        try:
            while self._queue.pending:
                found = self._queue.wait(within=within)
                if not found:
                    break
                self._record(found)
        finally:
            self._ledger.flush()
            self._tell(last=True)

    def _record(self, judged: Sequence[tuple[Draw, Verdict]]) -> None:
        for draw, verdict in judged:
            script = self._schedule.script
            proposal = None if script is None else script.proposal(draw.prompt_id, draw.index)
            # the schedule learns what a resumed run will find on record
            verdict = self._ledger.append(draw, verdict, self._stopping, proposal=proposal)
            event = self._schedule.note(draw.prompt_id, draw.index, verdict.score)
            self._tally.missing += verdict.missing
            self._tally.unsafe += event and not verdict.missing

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        tally = self._tally
        tally.seconds += now - self._clock
        self._clock = now
        self._report(
            Progress(
                stream=self._schedule.stream,
                draws=tally.draws,
                reused=tally.reused,
                remaining=self._schedule.remaining(),
                tokens=tally.tokens,
                unsafe=tally.unsafe,
                missing=tally.missing,
                seconds=tally.seconds,
            )
        )
