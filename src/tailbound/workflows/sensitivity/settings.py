"""What the user can choose about sensitivity to rewording."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SensitivityOptions:
    """The options of `tailbound sensitivity` besides the estimates."""

    confidence: float | None = option(
        "Confidence level of the intervals, those in a table included (default: that of the run, "
        "else 0.95).",
        default=None,
    )
    seed: int = option("Random seed of the bootstrap.", default=0, group="Run")

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        if self.seed < 0:
            raise UsageError(f"--seed must be a whole number of at least 0, not {self.seed}")
