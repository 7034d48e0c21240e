"""The seam between the audit and whatever decides what is unsafe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tailbound.core.contract import Verdict
from tailbound.core.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Exchange:
    """One prompt and one response to it."""

    prompt: Prompt
    response: str


@runtime_checkable
class Judge(Protocol):
    """Decides how unsafe responses are. Unsafe means: score >= `threshold`."""

    @property
    def id(self) -> str:
        """Names the judge and everything that its scores depend on."""
        ...

    @property
    def threshold(self) -> float:
        """The default threshold; the ledger keeps scores, so that draws can be read by another."""
        ...

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order. A judge that cannot decide says missing."""
        ...


@runtime_checkable
class Graded(Protocol):
    """A judge that knows whether its scores are grades."""

    @property
    def graded(self) -> bool:
        """False where every score is 0 or 1."""
        ...


@runtime_checkable
class RunsModel(Protocol):
    """A judge that may run a model of its own: worth handing out to the workers of a run."""

    @property
    def runs_model(self) -> bool:
        """Whether it does."""
        ...


@runtime_checkable
class Deterministic(Protocol):
    """A judge that may promise that its verdict is a function of prompt and response."""

    @property
    def deterministic(self) -> bool:
        """Whether the same exchange always gets the same score."""
        ...
