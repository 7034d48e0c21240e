"""What a study found, as a value; every number comes from its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tailbound.storage.plain import finite, from_plain
from tailbound.studies import Truth, pooled_z
from tailbound.workflows.result import Result
from tailbound.workflows.risk.proposals.registry import NONE

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """The risk of one prompt by one run."""

    id: str
    risk: float
    standard_error: float | None
    interval: tuple[float, float] | None
    certified_lower: float
    resolved: bool
    hits: int
    draws: int
    missing: int
    mean_weight: float
    mean_weight_z: float


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run: its folder below `runs/`, what it estimated, and what that cost.

    `tokens` are all token positions that the model read, in drawing, scoring, pilots, self-checks
    and the search for a direction; `once` those of them that more draws would not have added to.
    `written` are the tokens of its draws, pilots and self-checks included. `left_out` tuned the
    method.
    """

    folder: str
    method: str
    draws: int
    repeat: int
    seed: int
    tokens: int
    once: int
    written: int
    seconds: float
    left_out: tuple[str, ...]
    estimates: tuple[RunEstimate, ...]


@dataclass(frozen=True, kw_only=True)
class StudyPrompt:
    """One prompt and its true risk, exact or by brute force."""

    id: str
    prompt: str
    truth: Truth


@dataclass(frozen=True, kw_only=True)
class Point:
    """One prompt by one method and number of draws, over the repeats (`estimates` of them).

    `error` is the relative error (`tailbound.studies.errors`), None where it is not known; `tokens`
    those of one run, per prompt.
    """

    id: str
    method: str
    draws: int
    estimates: int
    estimate: float
    standard_error: float | None
    z: float | None
    error: float | None
    tokens: float


@dataclass(frozen=True, kw_only=True)
class Need:
    """Draws and tokens of one prompt for the relative error of the study; None if not known."""

    id: str
    method: str
    draws: float | None
    tokens: float | None


@dataclass(frozen=True, kw_only=True)
class MethodSummary:
    """One method over all prompts.

    `draws` and `tokens` are medians over prompts of what the wanted error takes (`known` of
    `prompts`), `saving` the median of plain Monte Carlo's tokens over its own. z-scores are those
    from the most draws; `pooled_z` is their sum over the root of their number. `mean_weight` is the
    mean over all prompts and runs, `largest_weight_z` the largest |z| among their mean weights.
    """

    method: str
    prompts: int
    known: int
    draws: float | None
    tokens: float | None
    saving: float | None
    pooled_z: float | None
    largest_z: float | None
    resolved: float
    mean_weight: float
    largest_weight_z: float


@dataclass(frozen=True, kw_only=True)
class ShareRow:
    """Share of prompts with an unsafe output among k draws: predicted, and seen if k were drawn."""

    k: int
    predicted: float
    predicted_error: float
    seen: float | None
    seen_error: float | None


@dataclass(frozen=True, kw_only=True, repr=False)
class StudyResult(Result):
    """Everything that a study found: its runs, and what follows from them.

    `wanted` is the relative error whose cost is reported. `truth` is "exact" or "brute force".
    """

    study: str
    target: str
    judge: str
    judge_id: str
    truth: str
    wanted: float
    contract: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]
    prompts: tuple[StudyPrompt, ...]
    runs: tuple[StudyRun, ...]
    points: tuple[Point, ...]
    needs: tuple[Need, ...]
    methods: tuple[MethodSummary, ...]
    shares: tuple[ShareRow, ...] = ()

    @property
    def most(self) -> int:
        """The largest number of draws that methods had."""
        return max(point.draws for point in self.points)

    def final(self, method: str) -> list[Point]:
        """The points of a method from the most draws."""
        return [p for p in self.points if p.method == method and p.draws == self.most]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `study.json` holds."""
        document = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: [asdict(one) for one in getattr(self, name)] for name in _ROWS},
        }
        plain: dict[str, Any] = finite(document)
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> StudyResult:
        """Inverse of `to_dict`."""
        values: dict[str, Any] = {name: document[name] for name in _PLAIN}
        rows: dict[str, Any] = {
            name: tuple(from_plain(kind, row) for row in document[name])
            for name, kind in _ROWS.items()
        }
        return cls(**values, **rows)

    def facts(self) -> dict[str, object]:
        """What was compared, and what each method takes for the wanted error."""
        found: dict[str, object] = {
            "study": self.study,
            "target": self.target,
            "prompts": len(self.prompts),
            "truth": self.truth,
            "runs": len(self.runs),
        }
        for one in self.methods:
            cost = "not known" if one.tokens is None else f"{one.tokens:,.0f}"
            found[f"tokens for {100 * self.wanted:g} % error, {one.method}"] = cost
        return found

    def frame(self) -> pl.DataFrame:
        """The points, one row per prompt, method and number of draws."""
        import polars as pl

        return pl.DataFrame([asdict(point) for point in self.points])


_PLAIN = (
    *("study", "target", "judge", "judge_id", "truth", "wanted"),
    *("contract", "options", "versions"),
)
_ROWS: dict[str, Any] = {
    "prompts": StudyPrompt,
    "runs": StudyRun,
    "points": Point,
    "needs": Need,
    "methods": MethodSummary,
    "shares": ShareRow,
}


def summary_of(
    method: str,
    *,
    points: Sequence[Point],
    needs: Sequence[Need],
    runs: Sequence[StudyRun],
) -> MethodSummary:
    """One method over all prompts; `points` and `needs` are those of all methods."""
    own = [need for need in needs if need.method == method]
    known = [need for need in own if need.draws is not None and need.tokens is not None]
    plain = {need.id: need.tokens for need in needs if need.method == NONE}
    ratios = [
        plain_tokens / need.tokens
        for need in known
        if need.tokens is not None and (plain_tokens := plain.get(need.id)) is not None
    ]
    mine = [point for point in points if point.method == method]
    most = max(point.draws for point in mine)
    scores = [point.z for point in mine if point.draws == most and point.z is not None]
    estimates = [e for run in runs if run.method == method for e in run.estimates]
    return MethodSummary(
        method=method,
        prompts=len(own),
        known=len(known),
        draws=_median([need.draws for need in known]),
        tokens=_median([need.tokens for need in known]),
        saving=_median(ratios),
        pooled_z=pooled_z(scores),
        largest_z=max((abs(z) for z in scores), default=None),
        resolved=sum(e.resolved for e in estimates) / len(estimates),
        mean_weight=sum(e.mean_weight for e in estimates) / len(estimates),
        largest_weight_z=max(abs(e.mean_weight_z) for e in estimates),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
