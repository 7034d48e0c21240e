"""Sensitivity to rewording, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.deployment import VarianceComponents
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class WordingSpread:
    """The rewordings of one query, on the scale of log10 p.

    `worst` and `best` are the ids of the resolved wordings with the largest and smallest p.
    `spread` is the difference of their log10 as estimated; `sd` the standard deviation of log10 p
    without the noise of the estimates.
    """

    group: str
    wordings: int
    unresolved: int
    worst: str | None
    worst_p: float | None
    best: str | None
    best_p: float | None
    spread: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class SensitivityResult(Result):
    """How far wordings of the same query differ, group by group, and all in all.

    `components` is None where too few groups have resolved wordings; `alone` of the queries have
    no group.
    """

    source: str
    what: str
    confidence: float
    groups: tuple[WordingSpread, ...]
    components: VarianceComponents | None
    alone: int
    warnings: tuple[str, ...]

    @property
    def guarantee(self) -> str:
        """What the numbers are."""
        return (
            f"intervals {100 * self.confidence:g}%, asymptotic (bootstrap over groups, as a random "
            "sample of queries, each with a random sample of its wordings); the noise of the "
            "estimates is removed from the standard deviations, not from the differences between "
            "the worst and the best wording"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "estimand": self.what,
            "guarantee": self.guarantee,
            "source": self.source,
            "confidence": self.confidence,
            "alone": self.alone,
            "components": None if self.components is None else asdict(self.components),
            "groups": [asdict(one) for one in self.groups],
            "warnings": list(self.warnings),
        }
        return {name: finite(value) for name, value in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SensitivityResult:
        """Inverse of `to_dict`."""
        return cls(
            source=from_plain(str, document["source"]),
            what=from_plain(str, document["estimand"]),
            confidence=from_plain(float, document["confidence"]),
            groups=from_plain(tuple[WordingSpread, ...], document["groups"]),
            components=from_plain(VarianceComponents | None, document["components"]),
            alone=from_plain(int, document["alone"]),
            warnings=from_plain(tuple[str, ...], document["warnings"]),
        )

    def facts(self) -> dict[str, object]:
        """How many groups, and how far wordings differ."""
        found: dict[str, object] = {"groups": len(self.groups)}
        if self.components is not None:
            low, high = (end**0.5 for end in self.components.within_interval)
            found["sd of log10 p within groups"] = (
                f"{self.components.within**0.5:.2g} ({low:.2g} to {high:.2g})"
            )
        return found

    def frame(self) -> pl.DataFrame:
        """One row per group."""
        import polars as pl

        schema: dict[str, Any] = {
            "group": pl.String,
            "wordings": pl.Int64,
            "unresolved": pl.Int64,
            "worst": pl.String,
            "worst_p": pl.Float64,
            "best": pl.String,
            "best_p": pl.Float64,
            "spread": pl.Float64,
            "sd": pl.Float64,
        }
        return pl.DataFrame([asdict(one) for one in self.groups], schema=schema)
