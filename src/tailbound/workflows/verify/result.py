"""What a verification found, as a value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tailbound.storage.plain import from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
Outcome = Literal["matches", "differs", "missing", "not recomputed"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value that differs: where it stands, what is recorded, and what was found instead."""

    place: str
    recorded: Any
    found: Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at: a file, a folder, or a part of one.

    `detail` says what it was compared with, what is wrong, or why it was not recomputed;
    `differences` are the first few, and `differing` how many there are.
    """

    name: str
    outcome: Outcome
    detail: str
    differences: tuple[Difference, ...] = ()
    differing: int = 0

    @property
    def wrong(self) -> bool:
        """Whether something differs or is missing."""
        return self.outcome in ("differs", "missing")


@dataclass(frozen=True, kw_only=True, repr=False)
class Verification(Result):
    """Whether the results of a run follow from its record; one `Check` for each thing looked at.

    `command` made the run; `tolerance` is the relative difference up to which numbers are equal.
    """

    folder: str
    command: str
    tolerance: float
    checks: tuple[Check, ...]

    @property
    def matches(self) -> bool:
        """Whether nothing that was recomputed differs, and nothing is missing."""
        return not any(check.wrong for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "folder": self.folder,
            "command": self.command,
            "tolerance": self.tolerance,
            "matches": self.matches,
            "checks": [
                {
                    "name": check.name,
                    "outcome": check.outcome,
                    "detail": check.detail,
                    "differences": [
                        {"place": one.place, "recorded": one.recorded, "found": one.found}
                        for one in check.differences
                    ],
                    "differing": check.differing,
                }
                for check in self.checks
            ],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Verification:
        """Inverse of `to_dict`."""
        said = ("schema", "matches")
        plain = {name: value for name, value in document.items() if name not in said}
        found: Verification = from_plain(cls, plain)
        return found

    def facts(self) -> dict[str, object]:
        """Whether everything matches, and how many checks ended in each way."""
        counts = Counter(check.outcome for check in self.checks)
        return {"everything matches": self.matches, **dict(sorted(counts.items()))}

    def frame(self) -> pl.DataFrame:
        """One row per check."""
        import polars as pl

        schema = {"name": pl.String, "outcome": pl.String, "detail": pl.String}
        rows = [(check.name, check.outcome, check.detail) for check in self.checks]
        return pl.DataFrame(rows, schema=schema, orient="row")
