"""What a process is busy with, for whoever watches, and what its model did, by stage.

    with step("scoring draws", total=len(draws), stage="scoring") as now:
        for draw in draws:
            ...
            now.advance()

A step is work that may take more than a moment. Nobody needs to watch; `watched_by` installs a
watcher. A notice is one line that the user should know; with nobody to show it, it is logged. A
stage is a name in the account of what the model in this process did (`Account`): the decoder and
the network call `count`, and the innermost stage is charged. Threads that judge in the background
stand outside of every stage and are charged to `JUDGING`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

JUDGING = "judging"
Held = TypeVar("Held")


@dataclass(eq=False, slots=True)
class Step:
    """One piece of work on its way: `done` of `total` units, None where that is not known."""

    name: str
    total: int | None = None
    unit: str = ""
    done: int = 0
    failed: bool = False
    started: float = field(default_factory=time.monotonic)

    def advance(self, units: int = 1) -> None:
        """Some more is done."""
        self.done += units
        watcher = _watcher.get()
        if watcher is not None:
            watcher.advanced(self)

    @property
    def seconds(self) -> float:
        """How long it has lasted so far."""
        return time.monotonic() - self.started


class Watcher(Protocol):
    """Someone who shows steps to a person."""

    def began(self, step: Step) -> None:
        """A step begins, inside those that have not ended."""
        ...

    def advanced(self, step: Step) -> None:
        """Some more of it is done."""
        ...

    def ended(self, step: Step) -> None:
        """It is over, finished or not."""
        ...


@dataclass(slots=True)
class Work:
    """What one stage cost: draws and their tokens, and every token position that the model read.

    `positions` counts all passes: sampling, re-reading of prompts and prefixes, scoring, hidden
    states; padding included, because it is computed as well.
    """

    draws: int = 0
    tokens: int = 0
    positions: int = 0
    seconds: float = 0.0


class Account:
    """The work of one process by stage; `changed` is called at the end of every stage."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._stages: dict[str, Work] = {}
        self._lock = threading.Lock()
        self._changed = changed

    def add(
        self,
        stage: str,
        *,
        draws: int = 0,
        tokens: int = 0,
        positions: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Charge a stage."""
        with self._lock:
            work = self._stages.setdefault(stage, Work())
            work.draws += draws
            work.tokens += tokens
            work.positions += positions
            work.seconds += seconds

    def stages(self) -> dict[str, Work]:
        """A copy of what was charged so far."""
        with self._lock:
            return {
                name: Work(work.draws, work.tokens, work.positions, work.seconds)
                for name, work in self._stages.items()
            }

    def stage_ended(self) -> None:
        """Tell whoever keeps the account."""
        self._changed()


# of the run in this thread: two runs in two threads of a process have one each
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
_hears: ContextVar[Callable[[str], None] | None] = ContextVar("hears", default=None)
_account: ContextVar[Account | None] = ContextVar("account", default=None)
_stage: ContextVar[str] = ContextVar("stage", default=JUDGING)


@contextmanager
def step(
    name: str, *, total: int | None = None, unit: str = "", stage: str | None = None
) -> Iterator[Step]:
    """Work that may take long; with `stage` it is charged to that."""
    now = Step(name, total, unit)
    watcher = _watcher.get()
    if watcher is not None:
        watcher.began(now)
    try:
        if stage is None:
            yield now
        else:
            with charged_to(stage):
                yield now
    except BaseException:
        now.failed = True
        raise
    finally:
        if watcher is not None:
            watcher.ended(now)


@contextmanager
def charged_to(stage: str) -> Iterator[None]:
    """Charge what the model does meanwhile to `stage`."""
    started = time.monotonic()
    token = _stage.set(stage)
    try:
        yield
    finally:
        _stage.reset(token)
        account = _account.get()
        if account is not None:
            # of a stage within another, the time counts for the inner one alone
            outer = _stage.get()
            seconds = time.monotonic() - started
            account.add(stage, seconds=seconds)
            if outer != JUDGING:
                account.add(outer, seconds=-seconds)
            account.stage_ended()


def count(*, draws: int = 0, tokens: int = 0, positions: int = 0) -> None:
    """Charge the present stage; nothing where no account is kept."""
    account = _account.get()
    if account is not None:
        account.add(_stage.get(), draws=draws, tokens=tokens, positions=positions)


@contextmanager
def _holding(variable: ContextVar[Held], value: Held) -> Iterator[None]:
    """Let `variable` hold `value` meanwhile."""
    before = variable.get()
    variable.set(value)
    try:
        yield
    finally:
        variable.set(before)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` see the steps meanwhile."""
    with _holding(_watcher, watcher):
        yield


@contextmanager
def accounted(account: Account) -> Iterator[None]:
    """Keep `account` meanwhile."""
    with _holding(_account, account):
        yield


def in_background(function: Callable[[], None]) -> Callable[[], None]:
    """`function` for another thread that works for the run in this one, outside of its stages."""
    context = copy_context()
    context.run(_stage.set, JUDGING)
    return partial(context.run, function)


def notice(text: str) -> None:
    """One line that the user should know."""
    hears = _hears.get()
    if hears is not None:
        hears(text)
    else:
        logging.getLogger("tailbound").warning("%s", text)


@contextmanager
def notices_to(hears: Callable[[str], None]) -> Iterator[None]:
    """Give notices to `hears` meanwhile."""
    with _holding(_hears, hears):
        yield


@contextmanager
def notices_once() -> Iterator[None]:
    """Give every notice only once meanwhile, to whoever hears them now."""
    given: set[str] = set()

    def hear(text: str) -> None:
        if text not in given:
            given.add(text)
            with _holding(_hears, hears):
                notice(text)

    hears = _hears.get()
    with _holding(_hears, hear):
        yield
