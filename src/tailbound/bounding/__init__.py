"""Question 1 as one job: split, sample, fit, calibrate, test, and bound prompts never sampled."""

from tailbound.bounding.job import BoundResult, run_bound
from tailbound.bounding.prediction import PredictedBound, predict_bounds
from tailbound.bounding.preview import Preview, preview_bound
from tailbound.bounding.settings import BoundSettings

__all__ = [
    "BoundResult",
    "BoundSettings",
    "PredictedBound",
    "Preview",
    "predict_bounds",
    "preview_bound",
    "run_bound",
]
