"""Rewordings that were made, as a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class QueryWordings:
    """One query: replies asked for, those kept as wordings, and why the others are none.

    `asked` is the sum of all that follow it but `similarity`, the median cosine similarity of the
    wordings to the query (NaN where nothing was kept or measured).
    """

    query: str
    group: str
    asked: int
    kept: int
    duplicate: int
    off_meaning: int
    refusal: int
    empty: int
    cut: int
    withheld: int
    too_long: int
    no_question: int
    hidden_characters: int
    similarity: float


REASONS = tuple(
    one.name
    for one in fields(QueryWordings)
    if one.name not in ("query", "group", "asked", "kept", "similarity")
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Paraphrased(Result):
    """A file of wordings: `file`, with the replies that it rests on in the folder `draws`.

    `count` wordings of each query were wanted beside its own; `queries` says what became of each.
    """

    file: str
    draws: str
    target: str
    contract: str
    temperature: float
    seed: int
    count: int
    tries: int
    min_similarity: float
    encoder: str | None
    queries: tuple[QueryWordings, ...]
    warnings: tuple[str, ...]

    @property
    def kept(self) -> int:
        """Wordings in the file, the queries' own left out."""
        return sum(one.kept for one in self.queries)

    @property
    def asked(self) -> int:
        """Replies that were asked for, in this process and before."""
        return sum(one.asked for one in self.queries)

    def rejected(self) -> dict[str, int]:
        """Replies that are no wordings, by reason, where there are any."""
        sums = {name: sum(getattr(one, name) for one in self.queries) for name in REASONS}
        return {name: number for name, number in sums.items() if number}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "queries": [asdict(one) for one in self.queries],
            "warnings": list(self.warnings),
        }
        return {name: finite(value) for name, value in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Paraphrased:
        """Inverse of `to_dict`."""
        plain = {name: value for name, value in document.items() if name != "schema"}
        found: Paraphrased = from_plain(cls, plain)
        return found

    def facts(self) -> dict[str, object]:
        """Where the wordings are, and what became of the replies."""
        wanted = self.count * len(self.queries)
        return {
            "file": self.file,
            "wordings": f"{self.kept:,} of {wanted:,} wanted, of {len(self.queries):,} queries",
            "replies": f"{self.asked:,}",
            **{name.replace("_", " "): number for name, number in self.rejected().items()},
        }

    def frame(self) -> pl.DataFrame:
        """One row per query."""
        import polars as pl

        schema: dict[str, Any] = {
            one.name: {"str": pl.String, "int": pl.Int64}.get(str(one.type), pl.Float64)
            for one in fields(QueryWordings)
        }
        return pl.DataFrame([asdict(one) for one in self.queries], schema=schema)


def median_of(values: list[float]) -> float:
    """The median of what is known, NaN for nothing."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return math.nan
    middle = len(known) // 2
    return known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
