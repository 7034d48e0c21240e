"""Judges of what is unsafe, behind one narrow seam."""

from tailbound.judges.base import Deterministic, Exchange, Judge
from tailbound.judges.registry import list_judges, load_judge
from tailbound.judges.verdicts import failed, is_failure, scored

__all__ = [
    "Deterministic",
    "Exchange",
    "Judge",
    "failed",
    "is_failure",
    "list_judges",
    "load_judge",
    "scored",
]
