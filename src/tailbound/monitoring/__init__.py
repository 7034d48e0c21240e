"""Production outcomes against an audited value: anytime-valid evidence of a rise; pure."""

from tailbound.monitoring.alarm import Shares, Unit, Watched, check_alpha, total, watch
from tailbound.monitoring.e_process import (
    MULTIPLES,
    EProcess,
    advance,
    check_reference,
    draw_factors,
    mean_factors,
    violation_seen,
)

__all__ = [
    "MULTIPLES",
    "EProcess",
    "Shares",
    "Unit",
    "Watched",
    "advance",
    "check_alpha",
    "check_reference",
    "draw_factors",
    "mean_factors",
    "total",
    "violation_seen",
    "watch",
]
