"""Workers that draw, score and judge for one run: the executor behind `--workers`.

Every worker keeps a stock of requests a little larger than its batch, and hands over what it has
finished some times a second; requests and draws travel in the same call. A worker that dies is
started again, and what it had not handed over is asked for again: by its key it is the same draw.
Workers that are not there yet join when they are.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import Draw, DrawRequest, Verdict
from tailbound.core.outside import shown
from tailbound.core.prompt import Prompt
from tailbound.core.steps import count, notice, step
from tailbound.errors import TargetError
from tailbound.executors.base import LOCAL, SCORED_TOGETHER
from tailbound.executors.carriers import Carrier, Launch, WorkerLostError
from tailbound.executors.messages import Asked, Finished, Loading, Work, draw_of, unpacked
from tailbound.judges.base import Exchange, Judge, RunsModel
from tailbound.targets.base import DrawSource, Target
from tailbound.targets.capabilities import ProposalEngine, Rebuildable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DEATHS = 3
"""So often in a row a worker may die without having finished anything."""
LOOK_SECONDS = 0.05
"""How long requests that come in meanwhile may wait for a worker that has room."""


class WorkerPool:
    """An `Executor` with several workers; a context manager, at whose end they are gone.

    `contract` is the digest of that of the target in this process: workers that loaded another one
    are refused. `rows` is how many responses each samples at once.
    """

    def __init__(
        self, launch: Launch, workers: int, loading: Loading, *, contract: str, rows: int
    ) -> None:
        self.parallel = workers
        self._loading, self._contract = loading, contract
        self._room = rows + max(1, rows // 2)
        self._enough = max(1, rows // 4)
        self._members = [_Member(number, launch, loading) for number in range(workers)]
        self._engine: object = None
        self._judge: _JudgeInWorkers | None = None
        self._key, self._keys = "", itertools.count(1)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        for member in self._members:
            member.close()
        if self._judge is not None:  # what its judges would have said here
            for line in dict.fromkeys(line for some in self._judge.lines.values() for line in some):
                notice(line)

    def sample(self, target: Target, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws of `target` by all workers, in the order in which they are handed over."""
        recipes = self._recipes(target)
        if recipes is None:
            yield from LOCAL.sample(target, source, seed=seed)
            return
        back: deque[DrawRequest] = deque()  # what workers that died had not handed over
        try:
            while True:
                for member in self._at_work(recipes, seed):
                    self._feed(member, source, back)
                busy = [member for member in self._members if member.answer is not None]
                if not busy:
                    if not self._usable():
                        continue
                    back.extend(source.take(self._room, wait=True))
                    if not back:
                        return
                    continue
                wait([m.answer for m in busy if m.answer], LOOK_SECONDS, FIRST_COMPLETED)
                for member in busy:
                    yield from self._collect(member, back)
        finally:
            for member in self._members:
                member.leave()

    def _usable(self) -> list[_Member]:
        """The workers that are there; waits until there is one."""
        while True:
            for member in self._members:
                member.look(self._contract)
            found = [member for member in self._members if member.ready]
            if found:
                return found
            with step("loading the model in the workers"):
                wait([m.loaded for m in self._members if m.loaded], None, FIRST_COMPLETED)

    def _at_work(self, recipes: Sequence[Any], seed: int) -> list[_Member]:
        """The workers that sample and wait for requests."""
        found = []
        for member in self._usable():
            try:
                member.sample(self._key, recipes, seed, self._enough)
            except WorkerLostError as error:
                member.restart(error)
                continue
            if member.answer is None:
                found.append(member)
        return found

    def _feed(self, member: _Member, source: DrawSource, back: deque[DrawRequest]) -> None:
        room = self._room - len(member.held)
        asked = [back.popleft() for _ in range(min(room, len(back)))]
        if len(asked) < room:
            asked += source.take(room - len(asked), wait=False)
        if asked or member.held:
            member.exchange(asked)

    def _collect(self, member: _Member, back: deque[DrawRequest]) -> Iterator[Draw]:
        if member.answer is None or not member.answer.done():
            return
        answer, member.answer = member.answer, None
        try:
            finished: Finished = answer.result()
        except WorkerLostError as error:
            back.extendleft(reversed(member.held.values()))
            member.restart(error)
            return
        _charge(finished.work)
        if finished.drawn:
            member.deaths = 0
        for drawn in finished.drawn:
            request = member.held.pop((drawn.prompt, drawn.number), None)
            if request is None:
                raise TargetError(
                    f"worker {member.number + 1} gave a draw that it was not asked for: finished "
                    "draws are kept"
                )
            yield draw_of(drawn, request)
        if finished.ended:
            kind, message = finished.failure or ("TargetError", "a worker stopped early")
            raise unpacked(kind, message)

    def score(
        self,
        engine: ProposalEngine,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Scores by all workers, in the same shared passes as in one process."""
        recipes = self._recipes(engine)
        if not recipes:
            return LOCAL.score(engine, prompts, responses, variants=variants)
        starts = range(0, len(responses), SCORED_TOGETHER)
        waiting = deque(slice(start, start + SCORED_TOGETHER) for start in starts)
        found: dict[int, list[NDArray[np.float64]]] = {}
        under_way: dict[int, tuple[_Member, slice, Future[Any]]] = {}
        while waiting or under_way:
            for member in self._usable():
                if waiting and member.number not in under_way:
                    part = waiting.popleft()
                    try:
                        member.let_speak(self._key, recipes)
                        answer = member.score(prompts[part], responses[part], variants)
                    except WorkerLostError as error:
                        waiting.appendleft(part)
                        member.restart(error)
                    else:
                        under_way[member.number] = (member, part, answer)
            wait([answer for _, _, answer in under_way.values()], None, FIRST_COMPLETED)
            for member, part, answer in list(under_way.values()):
                if not answer.done():
                    continue
                del under_way[member.number]
                try:
                    tables, work = answer.result()
                except WorkerLostError as error:
                    waiting.appendleft(part)
                    member.restart(error)
                else:
                    member.deaths = 0
                    _charge(work)
                    found[part.start] = tables
        return [table for start in starts for table in found[start]]

    def judge(self, judge: Judge) -> tuple[Judge, int]:
        """A judge that runs a model is asked in the workers, others here."""
        if self._loading.judge is None or not (isinstance(judge, RunsModel) and judge.runs_model):
            return judge, 1
        self._judge = _JudgeInWorkers(judge, self._loading, self._members)
        return self._judge, self.parallel

    def _recipes(self, target: Target) -> list[Any] | None:
        """How workers make the variants of `target`; None, with a notice, where they cannot."""
        variants = list(getattr(target, "variants", ()))[1:]
        for variant in variants:
            if not isinstance(variant, Rebuildable) or variant.recipe is None:
                notice(
                    f"{shown(variant.name)} cannot be made in workers: this process samples alone"
                )
                return None
        if target is not self._engine:
            self._engine, self._key = target, str(next(self._keys)) if variants else ""
        return [variant.recipe for variant in variants]


def _charge(work: Work) -> None:
    count(draws=work.draws, tokens=work.tokens, positions=work.positions)


class _Member:
    """One worker as the pool sees it."""

    def __init__(self, number: int, launch: Launch, loading: Loading) -> None:
        self.number = number
        self._launch, self._loading = launch, loading
        self.deaths = 0
        self.held: dict[tuple[int, int], DrawRequest] = {}
        self._start()

    def _start(self) -> None:
        self.carrier: Carrier = self._launch(self.number)
        self.loaded: Future[str] | None = self.carrier.call("load", self._loading)
        self.ready = False
        self.answer: Future[Finished] | None = None
        self._sampling = False
        self._speaks: tuple[str, int] = ("", 0)
        self._known: dict[str, int] = {}
        self.held.clear()

    def look(self, contract: str) -> None:
        """Notice that it has loaded; raise what loading raised."""
        if self.loaded is None or not self.loaded.done():
            return
        loaded, self.loaded = self.loaded, None
        try:
            digest = loaded.result()
        except WorkerLostError as error:
            self.restart(error)
            return
        if digest != contract:
            raise TargetError(
                f"worker {self.number + 1} loaded another model than this process, or under "
                f"another contract ({digest}, not {contract}): are the files the same everywhere?"
            )
        self.ready = True

    def restart(self, why: WorkerLostError) -> None:
        """It died: start it again, unless it dies of whatever it is given."""
        self.deaths += 1
        self.carrier.close()
        if self.deaths >= MOST_DEATHS:
            raise TargetError(
                f"worker {self.number + 1} died {self.deaths} times in a row ({why}): finished "
                "draws are kept; is there memory enough for so many workers?"
            )
        notice(f"worker {self.number + 1} died ({why}) and is started again; no draw is lost")
        self._start()

    def let_speak(self, key: str, recipes: Sequence[Any]) -> None:
        """Let it know all variants of the engine; raises `WorkerLostError`."""
        if self._speaks == (key, len(recipes)):
            return
        known = self._speaks[1] if self._speaks[0] == key else 0
        self.leave()
        self.carrier.call("variants", key, recipes[known:]).result()
        self._speaks = (key, len(recipes))

    def sample(self, key: str, recipes: Sequence[Any], seed: int, enough: int) -> None:
        """See to it that it samples; raises `WorkerLostError`."""
        if self._sampling:
            return
        self.let_speak(key, recipes)
        self.carrier.call("begin", seed, enough).result()
        self._sampling = True

    def exchange(self, asked: Sequence[DrawRequest]) -> None:
        """Hand it requests; `answer` is what it has finished."""
        new, rows = self._numbered([request.prompt for request in asked])
        sent = []
        for request, number in zip(asked, rows, strict=True):
            self.held[number, request.index] = request
            sent.append(
                Asked(number, request.stream, request.index, request.segments, request.beginning)
            )
        self.answer = self.carrier.call("exchange", new, sent)

    def score(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        variants: Sequence[int] | None,
    ) -> Future[Any]:
        """Have it score."""
        new, rows = self._numbered(prompts)
        return self.carrier.call("score", new, rows, [tuple(one) for one in responses], variants)

    def _numbered(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[int]]:
        """Those that it does not know yet, and the numbers of all."""
        new = []
        for prompt in prompts:
            if prompt.id not in self._known:
                self._known[prompt.id] = len(self._known)
                new.append(prompt)
        return new, [self._known[prompt.id] for prompt in prompts]

    def leave(self) -> None:
        """End its sampling, and wait until it has; what it has under way is given up."""
        if self._sampling:
            self._sampling, self.answer = False, None
            self.held.clear()
            with suppress(WorkerLostError):  # found out again by whoever asks it next
                self.carrier.call("stop").result()

    def close(self) -> None:
        """End it."""
        self.carrier.close()


class _JudgeInWorkers:
    """A judge whose model every worker has: batches go to whichever is free."""

    def __init__(self, judge: Judge, loading: Loading, members: Sequence[_Member]) -> None:
        self.id, self.threshold = judge.id, judge.threshold
        self.lines: dict[int, tuple[str, ...]] = {}
        self._judge, self._loading = judge, loading
        self._here = threading.Lock()
        self._free: SimpleQueue[_Member] = SimpleQueue()
        for member in members:
            self._free.put(member)

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Verdicts by the next worker; by the judge of this process where that one has died."""
        spec, threshold = self._loading.judge, self._loading.threshold
        member = self._free.get()
        try:
            answer = member.carrier.call("judge", spec, threshold, list(exchanges)).result()
        except WorkerLostError:
            with self._here:
                return self._judge.judge(exchanges)
        finally:
            self._free.put(member)
        verdicts: list[Verdict]
        verdicts, work, self.lines[member.number] = answer
        _charge(work)
        return verdicts
