"""What a gate found, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.gate.assessment import Assessment
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class GateResult(Result):
    """Every requirement with its outcome; `undecided` is what "cannot tell" does."""

    folder: str
    target: str
    judge: str
    undecided: Literal["fail", "pass"]
    assessments: tuple[Assessment, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement is met, or undecided where that passes."""
        return not any(self.stops(one) for one in self.assessments)

    def stops(self, one: Assessment) -> bool:
        """Whether this outcome closes the gate."""
        return one.outcome == "failed" or (
            one.outcome == "cannot tell" and self.undecided == "fail"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "schema": SCHEMA,
            "folder": self.folder,
            "target": self.target,
            "judge": self.judge,
            "undecided": self.undecided,
            "passed": self.passed,
            "assessments": [finite(asdict(one)) for one in self.assessments],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> GateResult:
        """Inverse of `to_dict`."""
        said = ("schema", "passed")
        found: GateResult = from_plain(cls, {k: v for k, v in document.items() if k not in said})
        return found

    def facts(self) -> dict[str, object]:
        """Whether the gate is open, and the outcome of each requirement."""
        found: dict[str, object] = {"passed": self.passed}
        return {**found, **{one.requirement: one.words for one in self.assessments}}

    def frame(self) -> pl.DataFrame:
        """One row per requirement."""
        import polars as pl

        schema: dict[str, Any] = {
            **dict.fromkeys(("requirement", "outcome"), pl.String),
            **dict.fromkeys(("estimate", "low", "high"), pl.Float64),
            "more": pl.Int64,
            **dict.fromkeys(("unit", "detail", "basis"), pl.String),
        }
        rows = [[getattr(one, name) for name in schema] for one in self.assessments]
        return pl.DataFrame(rows, schema=schema, orient="row")
