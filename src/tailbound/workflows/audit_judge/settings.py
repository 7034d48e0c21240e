"""What the user can choose about an audit of the judge, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AuditJudgeOptions:
    """The options of `tailbound audit-judge` besides the run and the better judge."""

    sheet: Path | None = option(
        "Write the sample to this CSV file, for people to label.", default=None
    )
    labels: Path | None = option("Read the labels from this file, a filled sheet.", default=None)
    positives: int = option(
        "Most draws to label of those recorded unsafe.", default=300, group="Sample"
    )
    negatives: int = option(
        "Most draws to label of those recorded safe.", default=300, group="Sample"
    )
    missing: int = option(
        "Most draws to label of those without a recorded verdict.", default=100, group="Sample"
    )
    before_bounds: int = option(
        "Most draws to label of those before the bounds of test prompts (runs of bound).",
        default=300,
        group="Sample",
    )
    seed: int = option("Random seed of the sample.", default=0, group="Sample")
    threshold: float | None = option(
        "Scores of --judge at or above this are unsafe (default: the judge's own).", default=None
    )
    no_prompts: bool = option("Show --judge only the responses.", default=False)
    recorded_threshold: float | None = option(
        "Threshold of the run's own verdicts (default: as recorded).", default=None
    )
    confidence: float = option("Confidence level of each interval.", default=0.95)

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        for name in ("positives", "negatives", "missing", "before_bounds", "seed"):
            if getattr(self, name) < 0:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be a whole number of at least 0, not "
                    f"{getattr(self, name)}"
                )
        if self.positives + self.negatives + self.missing == 0:
            raise UsageError("there is nothing to label: give --positives or --negatives")

    def check_source(self, judge: object) -> None:
        """Raise `UsageError` unless there is one place that labels come from or go to."""
        given = [
            name
            for name, value in (
                ("--judge", judge),
                ("--sheet", self.sheet),
                ("--labels", self.labels),
            )
            if value is not None
        ]
        if not given:
            raise UsageError(
                "give a better judge by --judge, or write a sheet for people by --sheet FILE.csv "
                "and read it back by --labels FILE.csv"
            )
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other: give one of them")
        if judge is None and self.threshold is not None:
            raise UsageError("--threshold is that of --judge: give a judge, or leave it out")
        if judge is None and self.labels is not None and self.no_prompts:
            raise UsageError("--no-prompts goes with --judge or --sheet: leave it out")
