"""When: calibrated lower bounds on the time to the first unsafe draw. Pure numpy and scipy."""

from tailbound.survival.bound import LowerPredictiveBound
from tailbound.survival.calibration import bound_at, calibrate, calibrate_with_record
from tailbound.survival.evaluation import Coverage, Evaluation, evaluate
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

__all__ = [
    "MAX_TIME",
    "CalibrationRecord",
    "Coverage",
    "Evaluation",
    "Forecast",
    "Geometric",
    "GroupCalibration",
    "GroupedBound",
    "Hazards",
    "LowerPredictiveBound",
    "Mixture",
    "PredictedTimes",
    "RecalibratedHazard",
    "Requirement",
    "bound_at",
    "budget_for",
    "calibrate",
    "calibrate_by_group",
    "calibrate_with_record",
    "evaluate",
    "expected_draws",
    "forecast",
    "group_of",
    "level",
    "numbers_of",
    "p_hat_edges",
    "quantile",
    "recalibrate_hazard",
    "required",
    "share_budget",
]
