"""What the user can choose about an import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.core.options import check_choices, option

Format = Literal["inspect", "lm-eval", "garak", "table"]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """The options of `tailbound import` besides the source and the run folder."""

    format: Format | None = option(
        "Format of the source: inspect, lm-eval, garak or table (default: detected).", default=None
    )
    judge_name: str | None = option(
        "Scorer, metric, detector or column to take scores from.", default=None
    )
    threshold: float | None = option(
        "Scores at or above this are unsafe (default: 0.5).", default=None
    )
    invert: bool = option("High scores mean safe: record 1 - score.", default=False)

    def __post_init__(self) -> None:
        check_choices(self)
