"""Question 1 as one job: split, sample, fit, calibrate, test, and bound prompts never sampled."""

from tailbound.workflows.bound.baseline import ConstantBound, constant_bound
from tailbound.workflows.bound.features import check_features, choose_features, chosen_features
from tailbound.workflows.bound.job import run_bound
from tailbound.workflows.bound.parts import PromptSplit, divide
from tailbound.workflows.bound.prediction import (
    PredictedBound,
    PredictedBounds,
    check_prediction,
    needs_target,
    predict_bounds,
)
from tailbound.workflows.bound.preview import Preview, preview_bound
from tailbound.workflows.bound.results import BoundResult
from tailbound.workflows.bound.settings import BoundSettings

__all__ = [
    "BoundResult",
    "BoundSettings",
    "ConstantBound",
    "PredictedBound",
    "PredictedBounds",
    "Preview",
    "PromptSplit",
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
