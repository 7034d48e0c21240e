"""What the user can choose about a summary."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """The options of `tailbound summarize` besides the run."""

    k: tuple[int, ...] = option(
        "Report P(at least one unsafe in k draws) for these k.", default=(10, 100)
    )
    confidence: float = option("Confidence level of each interval.", default=0.95)
    alpha: float = option(
        "Miscoverage alpha of the bound on T derived from each upper limit.", default=0.1
    )
    threshold: float | None = option(
        "Scores at or above this are unsafe (default: the threshold of the run).", default=None
    )
