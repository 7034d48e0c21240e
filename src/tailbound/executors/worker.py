"""What a worker does, whoever carries its calls: it holds a target, its variants and a judge."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import DrawRequest, Verdict
from tailbound.core.prompt import Prompt
from tailbound.core.steps import Account, accounted, charged_to, notices_to
from tailbound.errors import TargetError
from tailbound.executors.base import scored_together
from tailbound.executors.messages import (
    Asked,
    Drawn,
    Finished,
    Loading,
    Work,
    drawn_of,
    packed,
    request_of,
)
from tailbound.judges.base import Exchange, Judge
from tailbound.targets.capabilities import Extensible, VariantSource, notices_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tailbound.targets.base import Target

Recipe = Callable[[Any], Any]
"""Makes a variant of the target that it is given."""

SHORT_WAIT, LONG_WAIT = 0.05, 0.25
"""Seconds that finished draws may wait for others to be handed over with, and that a call may wait
for the first one."""


class Worker:
    """A target at work. Calls may come from several threads; one of them samples at a time."""

    def __init__(self) -> None:
        self._target: Any = None
        self._judge: Judge | None = None
        self._engine: Any = None
        self._engine_key: str | None = None
        self._prompts: list[Prompt] = []
        self._numbers: dict[str, int] = {}
        self._sampling: _Sampling | None = None
        self._lock, self._judging = threading.Lock(), threading.Lock()

    def pid(self) -> int:
        """The process that it lives in."""
        return os.getpid()

    def load(self, loading: Loading) -> str:
        """Load the target; the digest of its contract."""
        from tailbound.targets.registry import load_target

        with notices_to(lambda line: None):  # the process of the run gives them
            target = load_target(loading.target, loading.options, **loading.engine)
        self._target = target
        return target.contract.digest

    def _know(self, prompts: Sequence[Prompt]) -> None:
        """More prompts; they are numbered from 0 in the order in which they come."""
        for prompt in prompts:
            self._numbers[prompt.id] = len(self._prompts)
            self._prompts.append(prompt)

    def variants(self, key: str, recipes: Sequence[Recipe]) -> None:
        """Let the variants by `recipes` speak, besides those of the engine of that `key` so far.

        An engine of another key is forgotten. No key: the target alone.
        """
        with self._lock:
            if key != self._engine_key:
                self._engine, self._engine_key = None, key
            made = [recipe(self._target) for recipe in recipes]
            if self._engine is None and made:
                assert isinstance(self._target, VariantSource)
                self._engine = self._target.with_variants(made)
            elif made:
                assert isinstance(self._engine, Extensible)
                for variant in made:
                    self._engine.add_variant(variant)

    @property
    def _speaker(self) -> Any:
        return self._target if self._engine is None else self._engine

    def begin(self, seed: int, enough: int) -> None:
        """Begin to sample; `enough` draws are worth being handed over at once."""
        self.stop()
        self._sampling = _Sampling(self._speaker, seed, enough, self._prompts, self._numbers)

    def exchange(self, prompts: Sequence[Prompt], asked: Sequence[Asked]) -> Finished:
        """Take requests; hand over what is finished, once there is enough or time has passed.

        `prompts` are those of requests from now on that were not asked for before.
        """
        self._know(prompts)
        if self._sampling is None:
            raise TargetError("a worker was asked for draws before it began to sample")
        return self._sampling.exchange(asked)

    def stop(self) -> None:
        """End the sampling; what is under way is given up."""
        if self._sampling is not None:
            self._sampling.stop()
            self._sampling = None

    def score(
        self,
        new: Sequence[Prompt],
        prompts: Sequence[int],
        responses: Sequence[Sequence[int]],
        variants: Sequence[int] | None,
    ) -> tuple[list[NDArray[np.float64]], Work]:
        """Scores of responses to prompts by number; `new` are prompts not known yet."""
        self._know(new)
        account = Account()
        with self._lock, accounted(account), charged_to("score"):
            found = scored_together(
                self._engine, [self._prompts[number] for number in prompts], responses, variants
            )
        return found, _work(account)

    def judge(
        self, spec: str, threshold: float | None, exchanges: Sequence[Exchange]
    ) -> tuple[list[Verdict], Work, tuple[str, ...]]:
        """Verdicts of the judge of that name, loaded when it is first asked, and its notices."""
        from tailbound.judges.registry import load_judge

        account = Account()
        with (
            self._judging,
            accounted(account),
            charged_to("judge"),
            notices_to(lambda line: None),
        ):
            if self._judge is None:
                self._judge = load_judge(spec, threshold=threshold)
            verdicts = self._judge.judge(exchanges)
            return verdicts, _work(account), notices_of(self._judge)


def _work(account: Account) -> Work:
    done = account.stages().values()
    return Work(
        sum(one.draws for one in done),
        sum(one.tokens for one in done),
        sum(one.positions for one in done),
    )


class _Sampling:
    """One stream of draws: a thread that samples, with requests going in and draws coming out."""

    def __init__(
        self,
        target: Target,
        seed: int,
        enough: int,
        prompts: list[Prompt],
        numbers: dict[str, int],
    ) -> None:
        self._target, self._seed, self._enough = target, seed, enough
        self._prompts, self._numbers = prompts, numbers
        self._waiting: list[DrawRequest] = []
        self._drawn: list[Drawn] = []
        self._account, self._told = Account(), Work()
        self._stopped = self._ended = False
        self._failure: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._thread.start()

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        """The `DrawSource` of the target: what has come in."""
        with self._lock:
            while wait and not self._waiting and not self._stopped:
                self._changed.wait()
            taken, self._waiting = self._waiting[:limit], self._waiting[limit:]
            return [] if self._stopped else taken

    def exchange(self, asked: Sequence[Asked]) -> Finished:
        """Requests in, draws out."""
        began = time.monotonic()
        with self._lock:
            self._waiting += [request_of(one, self._prompts) for one in asked]
            self._changed.notify_all()
            while len(self._drawn) < self._enough and not self._ended:
                left = began + SHORT_WAIT - time.monotonic()
                if not self._drawn:
                    left += LONG_WAIT - SHORT_WAIT
                if left <= 0:
                    break
                self._changed.wait(left)
            drawn, self._drawn = self._drawn, []
            work, before = _work(self._account), self._told
            self._told = work
            ended, failure = self._ended, self._failure
        since = Work(*(now - then for now, then in zip(work, before, strict=True)))
        return Finished(drawn, since, ended, failure)

    def stop(self) -> None:
        """Stop, and wait until the target has stopped too."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        failure = None
        try:
            with (
                accounted(self._account),
                charged_to("sample"),
                notices_to(lambda line: None),
            ):
                for draw in self._target.sample(self, seed=self._seed):
                    with self._lock:
                        if self._stopped:
                            break
                        self._drawn.append(drawn_of(draw, self._numbers[draw.prompt_id]))
                        if len(self._drawn) in (1, self._enough):
                            self._changed.notify_all()
        except BaseException as error:  # the process of the run is told, whatever it is
            failure = packed(error)
        with self._lock:
            self._failure, self._ended = failure, True
            self._changed.notify_all()
