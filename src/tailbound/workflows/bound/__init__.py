"""Question 1 as one job: split, sample, fit, calibrate, test, and bound prompts never sampled.

Names are looked up when they are asked for: checks and the help of the command line need none of
what they bring along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
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
    from tailbound.workflows.bound.results import BoundAtAlpha, BoundResult
    from tailbound.workflows.bound.settings import BoundSettings

_HOMES = {
    "BoundAtAlpha": "results",
    "BoundResult": "results",
    "BoundSettings": "settings",
    "ConstantBound": "baseline",
    "PredictedBound": "prediction",
    "PredictedBounds": "prediction",
    "Preview": "preview",
    "PromptSplit": "parts",
    "check_features": "features",
    "check_prediction": "prediction",
    "choose_features": "features",
    "chosen_features": "features",
    "constant_bound": "baseline",
    "divide": "parts",
    "needs_target": "prediction",
    "predict_bounds": "prediction",
    "preview_bound": "preview",
    "run_bound": "job",
}

__all__ = [
    "BoundAtAlpha",
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

__getattr__ = lazy(__name__, _HOMES)
