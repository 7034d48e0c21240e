"""What the user can choose about an export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError

Format = Literal["inspect"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of `tailbound export` besides the run folder."""

    to: Format = option("Format: inspect, a log for `inspect view`.")
    out: Path | None = option(
        "File to write (default: export.eval in the run folder).", default=None, short="-o"
    )
    safe: int = option(
        "Safe draws to include, a random sample; as many of those without a verdict; and as many "
        "again of weighted ones. Unsafe draws are all included.",
        default=200,
    )
    k: tuple[int, ...] = option(
        "Report P(at least one unsafe in k draws) for these k.", default=(10, 100)
    )
    confidence: float = option("Confidence level of each interval.", default=0.95)
    seed: int = option("Random seed of the sample.", default=0, group="Run")

    def __post_init__(self) -> None:
        check_choices(self)
        if self.safe < 0:
            raise UsageError(f"--safe must be a whole number of at least 0, not {self.safe}")
        if not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed must lie in [0, 2^63), not {self.seed}")
