"""Question 1 as one job: split, sample, fit, calibrate, test, and bound prompts never sampled."""

from tailbound.bounding.constant import ConstantBound, constant_bound
from tailbound.bounding.features import check_features, choose_features, chosen_features
from tailbound.bounding.job import run_bound
from tailbound.bounding.parts import Parts, divide
from tailbound.bounding.prediction import (
    PredictedBound,
    check_prediction,
    needs_target,
    predict_bounds,
)
from tailbound.bounding.preview import Preview, preview_bound
from tailbound.bounding.results import BoundResult
from tailbound.bounding.settings import BoundSettings

__all__ = [
    "BoundResult",
    "BoundSettings",
    "ConstantBound",
    "Parts",
    "PredictedBound",
    "Preview",
    "check_features",
    "check_prediction",
    "choose_features",
    "chosen_features",
    "constant_bound",
    "divide",
    "needs_target",
    "predict_bounds",
    "preview_bound",
    "run_bound",
]
