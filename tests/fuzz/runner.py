"""Runs fuzzers: so many inputs, the same for the same seed, and what came out of each."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzz.inputs import Make
from tailbound.core.outside import visible
from tailbound.errors import TailboundError

LONGEST_MESSAGE = 2_000
"""Characters of an error; it is one line on a terminal."""
HANG = 2.0
"""Seconds of CPU time after which an input counts as one that hangs."""
_WAIT = 60.0
"""Seconds by the clock, for what would wait without computing."""


class Hang(BaseException):
    """An input took longer than `HANG`; no `except Exception` may catch it."""


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser: `call` gives it bytes, and `make` makes them.

    `refuses` are the errors that it may raise besides those of `tailbound.errors`. It gets a share
    of the inputs in proportion to `weight`: less where one input costs more.
    """

    name: str
    call: Callable[[bytes], object]
    make: Make
    refuses: tuple[type[Exception], ...] = ()
    weight: float = 1.0


@dataclass
class Tally:
    """What came of the inputs of one parser; `failures` are (input, what happened)."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    failures: list[tuple[bytes, str]] = field(default_factory=list)


def shares(parsers: Sequence[Parser], total: int) -> list[int]:
    """How many of `total` inputs each parser gets: all of them are used, and each gets one."""
    weights = [parser.weight for parser in parsers]
    counts = [max(1, int(total * weight / sum(weights))) for weight in weights]
    counts[0] += max(0, total - sum(counts))
    return counts


def fuzz(
    parser: Parser, inputs: int, *, seed: int = 0, most_failures: int = 5, trace: Path | None = None
) -> Tally:
    """Give the parser `inputs` inputs; stops after failures at `most_failures` places.

    The input at hand is kept in `trace`, for what would end the whole process.
    """
    tally = Tally()
    with _limited():
        for number in range(inputs):
            data = parser.make(Random(f"{seed} {parser.name} {number}"))
            if trace is not None:
                trace.write_bytes(data)
            attempt(parser, data, tally)
            if len(tally.failures) >= most_failures:
                break
    return tally


def replay(parser: Parser, data: bytes) -> Tally:
    """What comes of one input."""
    tally = Tally()
    with _limited():
        attempt(parser, data, tally)
    return tally


def attempt(parser: Parser, data: bytes, tally: Tally) -> None:
    """Give the parser one input and count what came of it."""
    tally.inputs += 1
    begun = time.process_time()
    problem: str | None = None
    signal.setitimer(signal.ITIMER_PROF, HANG)
    signal.setitimer(signal.ITIMER_REAL, _WAIT)
    try:
        parser.call(data)
        tally.accepted += 1
    except Hang:
        problem = f"no end within {HANG:g} s of CPU time"
    except (TailboundError, *parser.refuses) as error:
        tally.refused += 1
        ours = type(error).__module__.startswith("tailbound")
        problem = _wrong_message(str(error)) if ours else None
    except BaseException:  # Polars panics past Exception
        problem = traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.process_time() - begun
    tally.seconds += took
    tally.slowest = max(tally.slowest, took)
    if problem is not None and not any(_site(problem) == _site(one) for _, one in tally.failures):
        tally.failures.append((data, problem))


def _site(problem: str) -> str:
    """Where in the code something went wrong: one input is kept for each such place."""
    places = [line for line in problem.splitlines() if line.lstrip().startswith('File "')]
    return places[-1] if places else problem[:20]


def _wrong_message(said: str) -> str | None:
    if not said.strip():
        return "an error without a message"
    if visible(said) != said:
        return f"control characters or several lines in the message: {said[:300]!r}"
    if len(said) > LONGEST_MESSAGE:
        return f"a message of {len(said):,} characters: {said[:300]!r}"
    return None


@contextmanager
def _limited() -> Iterator[None]:
    """Timers raise `Hang`, and warnings, which would be seen on the terminal, are errors."""

    def stop(*_: Any) -> None:
        raise Hang

    before = [signal.signal(one, stop) for one in (signal.SIGPROF, signal.SIGALRM)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        for one, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(one, handler)
