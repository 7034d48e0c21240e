"""p_hat(x): how likely a prompt is to draw an unsafe output, predicted without sampling it."""

from tailbound.predictors.familiarity import Familiarity
from tailbound.predictors.head import CalibrationBin, FittedPredictor, TrainingReport
from tailbound.predictors.supplied import supplied_p_hat
from tailbound.predictors.training import LOSSES, fit
from tailbound.predictors.words import HashedWords

__all__ = [
    "LOSSES",
    "CalibrationBin",
    "Familiarity",
    "FittedPredictor",
    "HashedWords",
    "TrainingReport",
    "fit",
    "supplied_p_hat",
]
