"""The seam between the audit and whoever does the work, and the executor of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from tailbound.core.contract import Draw
from tailbound.core.prompt import Prompt
from tailbound.judges.base import Judge
from tailbound.targets.base import DrawSource, Target
from tailbound.targets.capabilities import ProposalEngine, SharedScoring

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCORED_TOGETHER = 512
"""Responses that are scored in shared passes. Last digits depend on the neighbours in a pass, so
who the neighbours are must not depend on the number of workers."""


class Executor(Protocol):
    """Draws, scores and judges for a run."""

    @property
    def parallel(self) -> int:
        """How many copies of the target work at once."""
        ...

    def sample(self, target: Target, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """As `target.sample`: draws in the order in which they finish."""
        ...

    def score(
        self,
        engine: ProposalEngine,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """As `engine.score` of responses to several prompts, one prompt each."""
        ...

    def judge(self, judge: Judge) -> tuple[Judge, int]:
        """The judge that the audit is to ask, and by how many threads at once."""
        ...


class LocalExecutor:
    """Everything in this process."""

    parallel = 1

    def sample(self, target: Target, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws of the target itself."""
        return target.sample(source, seed=seed)

    def score(
        self,
        engine: ProposalEngine,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Scores by the engine itself."""
        return [
            table
            for start in range(0, len(responses), SCORED_TOGETHER)
            for table in scored_together(
                engine,
                prompts[start : start + SCORED_TOGETHER],
                responses[start : start + SCORED_TOGETHER],
                variants,
            )
        ]

    def judge(self, judge: Judge) -> tuple[Judge, int]:
        """The judge itself, in one thread."""
        return judge, 1


LOCAL: Executor = LocalExecutor()
_executor: ContextVar[Executor] = ContextVar("executor", default=LOCAL)


def executor() -> Executor:
    """The executor of the run in this thread."""
    return _executor.get()


@contextmanager
def executing(executor: Executor) -> Iterator[None]:
    """Let `executor` do the work of the run meanwhile."""
    before = _executor.get()
    _executor.set(executor)
    try:
        yield
    finally:
        _executor.set(before)


def scored_together(
    engine: ProposalEngine,
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    variants: Sequence[int] | None,
) -> list[NDArray[np.float64]]:
    """Scores of a few responses, in shared passes where the engine has them."""
    if isinstance(engine, SharedScoring):
        return engine.score_all(prompts, responses, variants=variants)
    places: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        places.setdefault(prompt.id, []).append(number)
    found: dict[int, NDArray[np.float64]] = {}
    for numbers in places.values():
        said = [responses[number] for number in numbers]
        scored = engine.score(prompts[numbers[0]], said, variants=variants)
        found.update(zip(numbers, scored, strict=True))
    return [found[number] for number in range(len(responses))]
