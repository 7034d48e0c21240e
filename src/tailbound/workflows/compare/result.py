"""What a comparison found, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.comparison import MeanChange
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ComparedPrompt:
    """One prompt in both runs.

    `a` and `b` are its rates (unsafe / judged draws, None without a verdict) or risks, with their
    own intervals. `evidence` is a p-value, or in a sequential comparison an e-value; `adjusted` is
    what is compared with the false discovery rate, and `changed` says whether it is at most that.
    """

    id: str
    group: str | None
    a: float | None
    b: float | None
    interval_a: Interval
    interval_b: Interval
    evidence: float
    adjusted: float
    changed: bool


@dataclass(frozen=True, kw_only=True)
class BoundChange:
    """Lower predictive bounds of the test prompts that both runs have.

    `ratio` is the geometric mean of L_B / L_A, with an asymptotic interval over clusters of
    prompts (None for a single one).
    """

    prompts: int
    longer: int
    shorter: int
    ratio: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class CorrectedSide:
    """The rate of one run by the labels of its draws, beside that by its judge."""

    uncorrected: float | None
    estimate: float | None
    interval: Interval
    labels: int
    labels_by: str


@dataclass(frozen=True, kw_only=True)
class CorrectedChange:
    """Rates that are corrected for the mistakes of the judges (`tailbound audit-judge`).

    They are of all audited draws of each run, also of prompts that the other one lacks, prompts
    weighted by their draws. The upper limit of the ratio is None where A may be 0.
    """

    a: CorrectedSide
    b: CorrectedSide
    difference: float | None
    interval: Interval
    ratio_interval: tuple[float, float | None]
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that `run.yaml` says differently."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True, repr=False)
class CompareResult(Result):
    """Run `b` against run `a` on the prompts of both; differences are B - A.

    `left_out` says of how many prompts there is no comparison, by reason. `every_look` is the
    confidence sequence of a sequential comparison: it holds at all complete rounds at once, for the
    mean over exactly these prompts. `corrected` is None where not both runs have an audit of their
    judge that may be relied on; `not_corrected` then says why, where one of them has.
    """

    a: str
    b: str
    quantity: str
    what: str
    sequential: bool
    fdr: float
    mean: MeanChange
    every_look: Interval | None
    prompts: tuple[ComparedPrompt, ...]
    left_out: dict[str, int]
    bounds: BoundChange | None
    corrected: CorrectedChange | None
    not_corrected: str | None
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]

    @property
    def changed(self) -> tuple[ComparedPrompt, ...]:
        """The list of changed prompts, strongest evidence first."""
        found = [one for one in self.prompts if one.changed]
        return tuple(sorted(found, key=lambda one: one.adjusted))

    @property
    def guarantee(self) -> str:
        """What the list and the intervals promise."""
        more = ""
        if self.corrected is not None:
            more = (
                "; corrected change by melding, for all audited draws of each run, prompts "
                "weighted by their draws, labels taken as the truth (checked by simulation)"
            )
        level = f"{100 * self.mean.confidence:g}%"
        share = f"false discovery rate of the list at most {100 * self.fdr:g}%"
        if self.sequential:
            return (
                f"{share} at any time of stopping (e-values, Wang and Ramdas); confidence sequence "
                f"{level} for the mean over exactly these prompts, at every complete round at once"
            )
        by = {
            "rate": "exact tests, Benjamini and Hochberg; draws fixed in advance",
            "risk": "asymptotic tests on the log scale, Benjamini and Hochberg",
        }[self.quantity]
        return (
            f"{share} ({by}); interval of the mean change {level}, asymptotic, for the population "
            f"that the clusters of prompts were drawn from independently{more}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        names = (
            *("a", "b", "quantity", "sequential", "fdr", "every_look", "left_out"),
            "not_corrected",
        )
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "estimand": self.what,
            "guarantee": self.guarantee,
            **{name: getattr(self, name) for name in names},
            "mean": asdict(self.mean),
            "bounds": None if self.bounds is None else asdict(self.bounds),
            "corrected": None if self.corrected is None else asdict(self.corrected),
            "differences": [asdict(one) for one in self.differences],
            "changed": [one.id for one in self.changed],
            "prompts": [dict(vars(one)) for one in self.prompts],
            "warnings": list(self.warnings),
        }
        return {name: finite(value) for name, value in document.items()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CompareResult:
        """Inverse of `to_dict`."""
        return cls(
            a=from_plain(str, document["a"]),
            b=from_plain(str, document["b"]),
            quantity=from_plain(str, document["quantity"]),
            what=from_plain(str, document["estimand"]),
            sequential=from_plain(bool, document["sequential"]),
            fdr=from_plain(float, document["fdr"]),
            mean=from_plain(MeanChange, document["mean"]),
            every_look=from_plain(Interval | None, document["every_look"]),
            prompts=from_plain(tuple[ComparedPrompt, ...], document["prompts"]),
            left_out=from_plain(dict[str, int], document["left_out"]),
            bounds=from_plain(BoundChange | None, document["bounds"]),
            corrected=from_plain(CorrectedChange | None, document["corrected"]),
            not_corrected=from_plain(str | None, document["not_corrected"]),
            differences=from_plain(tuple[Difference, ...], document["differences"]),
            warnings=from_plain(tuple[str, ...], document["warnings"]),
        )

    def facts(self) -> dict[str, object]:
        """The mean change, and how many prompts changed."""
        least = ">= " if self.mean.difference is None else ""  # missing verdicts count as safe
        found: dict[str, object] = {
            "prompts": len(self.prompts),
            f"mean {self.quantity}": f"{least}{self.mean.a:.3g} -> {least}{self.mean.b:.3g}",
        }
        ends = self.every_look if self.sequential else self.mean.interval
        if ends is not None:
            found["change"] = f"{ends[0]:+.2g} to {ends[1]:+.2g}"
        if self.corrected is not None:
            low, high = self.corrected.interval
            found["corrected change"] = f"{low:+.2g} to {high:+.2g}"
        changed = self.changed
        known = [one for one in changed if one.a is not None and one.b is not None]
        more = sum(float(one.b or 0) > float(one.a or 0) for one in known)
        found["changed"] = f"{len(changed)} ({more} more often unsafe)"
        return found

    def frame(self) -> pl.DataFrame:
        """One row per prompt."""
        import polars as pl

        schema: dict[str, Any] = {
            "id": pl.String,
            "group": pl.String,
            "a": pl.Float64,
            "b": pl.Float64,
            "a_low": pl.Float64,
            "a_high": pl.Float64,
            "b_low": pl.Float64,
            "b_high": pl.Float64,
            "evidence": pl.Float64,
            "adjusted": pl.Float64,
            "changed": pl.Boolean,
        }
        rows = [
            (
                *(one.id, one.group, one.a, one.b, *one.interval_a, *one.interval_b),
                *(one.evidence, one.adjusted, one.changed),
            )
            for one in self.prompts
        ]
        return pl.DataFrame(rows, schema=schema, orient="row")
