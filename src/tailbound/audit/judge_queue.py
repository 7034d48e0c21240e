"""Judging in the background, so that the model keeps sampling meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tailbound.core.contract import Draw, Verdict
from tailbound.core.prompt import Prompt
from tailbound.core.steps import in_background
from tailbound.errors import JudgeError, UnreachableError
from tailbound.judges.base import Exchange, Judge
from tailbound.judges.verdicts import failed, is_failure, scored

#: How long a worker waits for its batch to fill while nobody is waiting for verdicts.
LINGER_SECONDS = 0.005
#: How long an interrupted process waits for one more verdict.
GRACE_SECONDS = 10.0


def verdicts_of(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """One verdict for each exchange, whatever the judge does.

    Where it raises on a batch it gets the items one by one; one on which it raises again is
    missing, with the reason. Raises `JudgeError` where the judge does, and where it answers with
    the wrong number of verdicts.
    """
    if not exchanges:
        return []
    try:
        answer = judge.judge(exchanges)
    except JudgeError:
        raise
    except Exception as error:
        if len(exchanges) == 1:
            return [failed(error)]
        return [verdicts_of(judge, [exchange])[0] for exchange in exchanges]
    if len(answer) != len(exchanges):
        raise JudgeError(
            f"judge {judge.id} gave {len(answer)} verdicts for {len(exchanges)} responses"
        )
    return [scored(verdict) for verdict in answer]


def no_verdicts(
    judge_id: str,
    draws: int,
    stream: str,
    reasons: Sequence[str | None],
    *,
    cure: str = "start again with another --out",
) -> UnreachableError:
    """The error for draws of which not one has a verdict, with the commonest reason.

    `cure` is what to do once the judge is fixed.
    """
    known = Counter(reason for reason in reasons if reason)
    why = f" ({known.most_common(1)[0][0]})" if known else ""
    return UnreachableError(
        f"judge {judge_id} gave no verdict on any of {draws:,} {stream} draws{why}: fix the judge, "
        f"then {cure}"
    )


def judge_draws(judge: Judge, pairs: Sequence[tuple[Draw, Prompt]]) -> list[Verdict]:
    """`verdicts_of` draws and their prompts; draws that are missing already are not shown."""
    shown = [Exchange(prompt, draw.text) for draw, prompt in pairs if draw.missing is None]
    given = iter(verdicts_of(judge, shown))
    return [
        next(given) if draw.missing is None else scored(Verdict(None, draw.missing))
        for draw, _ in pairs
    ]


class JudgeQueue:
    """Draws go in, verdicts come out, in the order in which the judge finishes; a context manager.

    `workers` threads hand the judge up to `batch_size` exchanges at a time. Where the judge
    raises on a batch it gets the items one by one; an item on which it raises again is missing,
    with the reason. Scores outside [0, 1] are missing too.

    After `max_failures` failures in a row, and no verdict between them, the judge is taken to be
    broken: the verdicts that are finished are handed out, and then `ready` and `wait` raise
    `JudgeError` with the last reason. A judge that answers with the wrong number of verdicts is
    broken at once.
    """

    def __init__(
        self, judge: Judge, *, workers: int = 1, batch_size: int = 64, max_failures: int = 50
    ) -> None:
        if workers < 1 or batch_size < 1 or max_failures < 1:
            raise ValueError("workers, batch_size and max_failures must be at least 1")
        self._judge = judge
        self._batch_size = batch_size
        self._max_failures = max_failures
        self._waiting: deque[tuple[Draw, Prompt]] = deque()
        self._done: list[tuple[Draw, Verdict]] = []
        self._pending = 0
        self._streak = 0
        self._broken: str | None = None
        self._closed = False
        self._wanted = False
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._finished = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=in_background(self._run), name=f"judge-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Draws that were submitted and whose verdicts have not been handed out."""
        return self._pending

    def submit(self, draw: Draw, prompt: Prompt) -> None:
        """Have `draw`, a response to `prompt`, judged. Returns at once."""
        with self._lock:
            if self._closed:
                raise ValueError("the judging queue is closed")
            self._waiting.append((draw, prompt))
            self._pending += 1
            if len(self._waiting) == 1 or len(self._waiting) >= self._batch_size:
                self._work.notify()

    def ready(self) -> list[tuple[Draw, Verdict]]:
        """The verdicts finished since the last call, perhaps none; never blocks.

        Raises `JudgeError` where there are none because the judge is broken.
        """
        with self._lock:
            return self._hand_out()

    def wait(self, *, within: float | None = None) -> list[tuple[Draw, Verdict]]:
        """At least one verdict as soon as there is one; none where nothing is pending.

        None either where none comes `within` so many seconds; without that it waits for ever.
        Raises `JudgeError` where there will be none because the judge is broken.
        """
        with self._lock:
            self._wanted = True
            self._work.notify_all()
            while self._pending and not self._done and self._broken is None:
                if not self._finished.wait(within):
                    break
            self._wanted = False
            return self._hand_out()

    def rest(self) -> list[tuple[Draw, Verdict]]:
        """What `ready` gives, but none where the judge is broken: for the end, after `close`."""
        with self._lock:
            return self._hand_out() if self._done else []

    def close(self, *, within: float | None = None) -> None:
        """Stop the workers after the batch that they are at; what still waits is dropped.

        After `within` seconds those are not waited for either; None waits as long as it takes.
        """
        with self._lock:
            self._closed = True
            self._work.notify_all()
        ends = None if within is None else time.monotonic() + within
        for thread in self._threads:
            thread.join(None if ends is None else max(0.0, ends - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told_to_end = kind is not None and not issubclass(kind, Exception)
        self.close(within=1.0 if told_to_end else None)

    def _hand_out(self) -> list[tuple[Draw, Verdict]]:
        if not self._done and self._broken is not None:
            raise JudgeError(self._broken)
        done, self._done = self._done, []
        self._pending -= len(done)
        return done

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            try:
                verdicts = self._of_batch(batch)
                broken = None
            except JudgeError as error:
                verdicts, broken = [], str(error)
            except BaseException as error:  # or the thread would end and `wait` never return
                verdicts, broken = [], f"the judge's answer is unusable: {error!r}"
            with self._lock:
                self._done.extend(
                    (draw, verdict) for (draw, _), verdict in zip(batch, verdicts, strict=False)
                )
                self._count(verdicts)
                self._broken = self._broken or broken
                self._finished.notify_all()

    def _take(self) -> list[tuple[Draw, Prompt]] | None:
        """The next batch, or None where there is nothing more to do."""
        with self._lock:
            while not (self._closed or self._broken):
                if len(self._waiting) >= self._batch_size or (self._waiting and self._wanted):
                    break
                if self._waiting:
                    if not self._work.wait(LINGER_SECONDS) and self._waiting:
                        break
                else:
                    self._work.wait()
            if self._closed or self._broken:
                return None
            size = min(len(self._waiting), self._batch_size)
            return [self._waiting.popleft() for _ in range(size)]

    def _of_batch(self, batch: Sequence[tuple[Draw, Prompt]]) -> list[Verdict]:
        """The judge's verdicts; draws that are missing already are not shown to it."""
        shown = [pair for pair in batch if pair[0].missing is None]
        given = iter(
            verdicts_of(self._judge, [Exchange(prompt, draw.text) for draw, prompt in shown])
        )
        return [
            next(given) if draw.missing is None else scored(Verdict(None, draw.missing))
            for draw, _ in batch
        ]

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._streak = self._streak + 1 if is_failure(verdict) else 0
            if self._streak >= self._max_failures and self._broken is None:
                why = (verdict.reason or "").removeprefix("judge failed: ")
                self._broken = (
                    f"judge {self._judge.id} failed {self._streak} times in a row ({why}): fix "
                    "it, then run the same command again"
                )
