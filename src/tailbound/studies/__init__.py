"""The statistics of studies that compare methods: errors, costs, z-scores, shares, exact coverage.

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
from tailbound.studies.synthetic import (
    ExactCoverage,
    SyntheticPopulation,
    exact_coverage,
    synthetic_population,
)

__all__ = [
    "WANTED",
    "Deviation",
    "ExactCoverage",
    "Share",
    "SyntheticPopulation",
    "Truth",
    "deviation",
    "draws_for",
    "exact_coverage",
    "plain_draws",
    "plain_error",
    "pooled_z",
    "predicted_share",
    "relative_error",
    "seen_share",
    "synthetic_population",
    "tokens_for",
]
