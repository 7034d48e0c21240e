"""When: calibrated lower bounds on the time to the first unsafe draw. Pure numpy and scipy."""

from tailbound.survival.bound import LowerPredictiveBound
from tailbound.survival.calibration import bound_at, calibrate, calibrate_with_record
from tailbound.survival.evaluation import Coverage, Evaluation, evaluate
from tailbound.survival.event_rates import (
    Bracket,
    FollowedPrompts,
    Rates,
    counted_prompts,
    mean_limits,
    rates,
    weighted_prompts,
)
from tailbound.survival.geometric import MAX_TIME, expected_draws, level, quantile
from tailbound.survival.groups import (
    GroupCalibration,
    GroupedBound,
    calibrate_by_group,
    group_of,
    numbers_of,
    p_hat_edges,
    share_budget,
)
from tailbound.survival.planning import (
    Forecast,
    Requirement,
    budget_for,
    forecast,
    required,
)
from tailbound.survival.predicted import Geometric, Hazards, Mixture, PredictedTimes
from tailbound.survival.recalibration import RecalibratedHazard, recalibrate_hazard
from tailbound.survival.record import CalibrationRecord
from tailbound.survival.upper import UpperPredictiveBound, calibrate_upper

__all__ = [
    "MAX_TIME",
    "Bracket",
    "CalibrationRecord",
    "Coverage",
    "Evaluation",
    "FollowedPrompts",
    "Forecast",
    "Geometric",
    "GroupCalibration",
    "GroupedBound",
    "Hazards",
    "LowerPredictiveBound",
    "Mixture",
    "PredictedTimes",
    "Rates",
    "RecalibratedHazard",
    "Requirement",
    "UpperPredictiveBound",
    "bound_at",
    "budget_for",
    "calibrate",
    "calibrate_by_group",
    "calibrate_upper",
    "calibrate_with_record",
    "counted_prompts",
    "evaluate",
    "expected_draws",
    "forecast",
    "group_of",
    "level",
    "mean_limits",
    "numbers_of",
    "p_hat_edges",
    "quantile",
    "rates",
    "recalibrate_hazard",
    "required",
    "share_budget",
    "weighted_prompts",
]
