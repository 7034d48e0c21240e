"""What a requirement is, and what comes of assessing one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tailbound.deployment.requirements import Outcome
from tailbound.workflows.gate.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """One requirement and its outcome.

    `estimate`, `low` and `high` are of the quantity, each None where it is not known or withheld;
    `more` is about how many more `unit` would tell, None where that is not known. `detail` says in
    words what was found, and `basis` what the interval rests on.
    """

    requirement: str
    outcome: Outcome
    detail: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    more: int | None = None
    unit: str = "draws"
    basis: str = ""

    @property
    def words(self) -> str:
        """The outcome, with about how many more observations would tell."""
        if self.outcome != "cannot tell" or self.more is None:
            return self.outcome
        return f"cannot tell: about {self.more:,} more {self.unit}"


class Requirement(Protocol):
    """Something that the results of a run must show.

    Another kind of requirement (no worse than a second run, say) is another class with the same
    two members.
    """

    @property
    def text(self) -> str:
        """As it was asked for."""

    def assess(self, evidence: Evidence) -> Assessment:
        """The outcome, from the results of a run; raises `LedgerError` where one is damaged."""
