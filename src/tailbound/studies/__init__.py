"""The statistics of studies that compare ways to measure a risk: errors, costs, z-scores, shares.

Pure functions on arrays; `tailbound.workflows.reproduce` makes the runs and draws the figures.
"""

from tailbound.studies.at_least_one import Share, predicted_share, seen_share
from tailbound.studies.errors import (
    WANTED,
    Deviation,
    Truth,
    deviation,
    draws_for,
    plain_draws,
    plain_error,
    pooled_z,
    relative_error,
    tokens_for,
)

__all__ = [
    "WANTED",
    "Deviation",
    "Share",
    "Truth",
    "deviation",
    "draws_for",
    "plain_draws",
    "plain_error",
    "pooled_z",
    "predicted_share",
    "relative_error",
    "seen_share",
    "tokens_for",
]
