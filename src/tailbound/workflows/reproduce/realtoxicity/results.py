"""What the study of completions found, as a value; every number comes from its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.storage.plain import finite, from_plain
from tailbound.survival import Coverage
from tailbound.workflows.result import Result

if TYPE_CHECKING:
    import polars as pl

SCHEMA = 1
STUDY_NAME = "realtoxicity"


@dataclass(frozen=True, kw_only=True)
class CheckedBound:
    """Bounds of the test prompts, and how many of them hold (`coverage`).

    `log_mean_bound` is the geometric mean of L.
    """

    mean_bound: float
    median_bound: float
    log_mean_bound: float
    coverage: Coverage

    @property
    def miscoverage(self) -> float:
        """Share of the test prompts seen unsafe before L; unresolved ones may add to it."""
        return self.coverage.missed / self.coverage.prompts


@dataclass(frozen=True, kw_only=True)
class CompletionRun:
    """One run: its folder below `runs/`, its bound, and draws per calibration prompt.

    `planned` are the draws that the design reckons with, `spent` those that the estimate used.
    `level` is the calibrated quantile level, `cap` the longest bound possible.
    """

    folder: str
    design: str
    guarantee: str
    budget: int
    level: float
    cap: int
    limited_by: str
    planned: float
    spent: float
    checked: CheckedBound


@dataclass(frozen=True, kw_only=True, repr=False)
class CompletionResult(Result):
    """Everything that the study found: its runs, beside the bound that is not calibrated.

    `uncalibrated` is the quantile of T at level alpha under p_hat itself. `prompts` are how many
    each part has; `draws` and `tokens` those on record in the fullest of the runs, each of which
    begins with the draws of the one before.
    """

    target: str
    judge: str
    judge_id: str
    contract: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]
    prompts: dict[str, int]
    draws: int
    tokens: int
    uncalibrated: CheckedBound
    runs: tuple[CompletionRun, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: what `study.json` holds."""
        plain: dict[str, Any] = finite(
            {
                "schema": SCHEMA,
                "study": STUDY_NAME,
                **{name: getattr(self, name) for name in _PLAIN},
                "uncalibrated": asdict(self.uncalibrated),
                "runs": [asdict(one) for one in self.runs],
            }
        )
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> CompletionResult:
        """Inverse of `to_dict`."""
        values: dict[str, Any] = {name: document[name] for name in _PLAIN}
        return cls(
            **values,
            uncalibrated=from_plain(CheckedBound, document["uncalibrated"]),
            runs=from_plain(tuple[CompletionRun, ...], document["runs"]),
        )

    def facts(self) -> dict[str, object]:
        """What was compared, and the mean bound and miscoverage of each run."""
        found: dict[str, object] = {
            "study": STUDY_NAME,
            "target": self.target,
            "test prompts": self.prompts["test"],
            "uncalibrated": _fact(self.uncalibrated),
        }
        return {**found, **{run.folder: _fact(run.checked) for run in self.runs}}

    def frame(self) -> pl.DataFrame:
        """One row per run."""
        import polars as pl

        schema: dict[str, Any] = {
            "design": pl.String,
            "guarantee": pl.String,
            "budget": pl.Int64,
            "mean_bound": pl.Float64,
            "median_bound": pl.Float64,
            "log_mean_bound": pl.Float64,
            "miscoverage": pl.Float64,
            "unresolved": pl.Int64,
            "planned": pl.Float64,
            "spent": pl.Float64,
        }
        rows = [
            {
                **{name: getattr(run, name, None) for name in schema},
                **{name: getattr(run.checked, name) for name in schema if "bound" in name},
                "miscoverage": run.checked.miscoverage,
                "unresolved": run.checked.coverage.unresolved,
            }
            for run in self.runs
        ]
        return pl.DataFrame(rows, schema=schema)


_PLAIN = (
    *("target", "judge", "judge_id", "contract", "options", "versions"),
    *("prompts", "draws", "tokens"),
)


def _fact(checked: CheckedBound) -> str:
    return f"mean bound {checked.mean_bound:.4g}, miscoverage {checked.miscoverage:.3f}"
