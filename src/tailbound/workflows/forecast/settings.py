"""What the user can choose about a forecast."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ForecastOptions:
    """The options of `tailbound forecast` besides the estimates."""

    draws: tuple[int, ...] = option(
        "Forecast so many draws of the traffic mix.", default=(1_000, 100_000)
    )
    queries: tuple[int, ...] = option(
        "Forecast the worst of so many new queries (default: 10 and 100 times those evaluated).",
        default=(),
    )
    weights: str | None = option(
        "Traffic mix: a file with weight, and id or group, or a column of the table (default: the "
        "column weight, else equal weights).",
        default=None,
    )
    threshold: float | None = option(
        "Also forecast the probability that the worst query has a larger P(unsafe) than this.",
        default=None,
    )
    top: int | None = option(
        "Fit the tail to so many of the largest (default: a twentieth, at least 10).", default=None
    )
    far: bool = option("Allow --queries beyond 1,000 times those evaluated.", default=False)
    confidence: float | None = option(
        "Confidence level of the intervals, those in a table included (default: that of the run, "
        "else 0.95).",
        default=None,
    )
    seed: int = option("Random seed.", default=0, group="Run")

    def __post_init__(self) -> None:
        if not self.draws:
            raise UsageError("--draws takes at least one number of draws")
        for name, values in (("--draws", self.draws), ("--queries", self.queries)):
            for one in values:
                if not 1 <= one <= 10**15:
                    raise UsageError(
                        f"{name} takes whole numbers from 1 to 10^15, not {str(one)[:20]}"
                    )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(
                f"--threshold must lie strictly between 0 and 1, not {self.threshold:g}"
            )
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        if self.seed < 0:
            raise UsageError(f"--seed must be a whole number of at least 0, not {self.seed}")
