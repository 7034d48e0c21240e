"""Question 1 as one job: split, sample, fit, calibrate, test, and bound prompts never sampled."""

from tailbound.bounding.job import run_bound
from tailbound.bounding.parts import Parts, divide
from tailbound.bounding.prediction import PredictedBound, predict_bounds
from tailbound.bounding.preview import Preview, preview_bound
from tailbound.bounding.results import BoundResult
from tailbound.bounding.settings import BoundSettings

__all__ = [
    "BoundResult",
    "BoundSettings",
    "Parts",
    "PredictedBound",
    "Preview",
    "divide",
    "predict_bounds",
    "preview_bound",
    "run_bound",
]
