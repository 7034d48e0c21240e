"""What the user can choose about judging again, checked before a judge is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RejudgeOptions:
    """The options of `tailbound rejudge` besides the run and the judge.

    `prompts` and its column `field` replace the prompts on record, which imported runs may lack;
    with `no_prompts` the judge sees the responses alone, and such verdicts are kept apart.
    `recorded_threshold` reads the run's own scores by another threshold.
    """

    threshold: float | None = option(
        "Scores at or above this are unsafe (default: the judge's own).", default=None
    )
    only_missing: bool = option("Judge only draws whose verdict is missing.", default=False)
    prompts: Path | None = option("Prompt file, if the run has no prompts on record.", default=None)
    field: str | None = option("Column of --prompts that holds the prompts.", default=None)
    no_prompts: bool = option("Show the judge only the responses.", default=False)
    recorded_threshold: float | None = option(
        "Threshold of the run's own verdicts (default: as recorded).", default=None
    )
    confidence: float = option("Confidence level of each interval.", default=0.95)

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between 0 and 1, not {self.confidence}"
            )
        if self.no_prompts and self.prompts is not None:
            raise UsageError("--prompts and --no-prompts exclude each other: leave one out")
        if self.field is not None and self.prompts is None:
            raise UsageError("--field names a column of --prompts: give that file, or leave it out")
