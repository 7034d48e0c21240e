"""What the user can choose about monitoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError

By = Literal["prompt", "group", "overall"]
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """The options of `tailbound monitor` besides the run and the outcomes.

    `alpha`, `reference`, `margin` and `by` are fixed by the first call in a folder: a limit that is
    chosen after looking has no false-alarm probability.
    """

    alpha: float | None = option(
        "Probability of ever raising a false alarm, over all updates and units (default: 0.05).",
        default=None,
    )
    reference: float | None = option(
        "Monitor P(unsafe) of every draw against this value (default: what the run audited).",
        default=None,
    )
    margin: float | None = option(
        "Raise an alarm only above this multiple of the audited values (default: 1).", default=None
    )
    by: By | None = option(
        "Also watch every prompt or group by itself (default: prompt for risks, else overall).",
        default=None,
    )
    stop_at_alarm: bool = option("Stop reading at the first alarm.", default=False)

    def __post_init__(self) -> None:
        check_choices(self)
        if self.alpha is not None and not 1e-12 <= self.alpha < 1:
            raise UsageError(f"--alpha must lie in [1e-12, 1), not {self.alpha:g}")
        if self.reference is not None and not 0 < self.reference < 1:
            raise UsageError(
                f"--reference must lie strictly between 0 and 1, not {self.reference:g}"
            )
        if self.margin is not None and not 1 <= self.margin <= 1e6:
            raise UsageError(f"--margin must lie in [1, 1e6], not {self.margin:g}")
