"""p_hat(x): how likely a prompt is to draw an unsafe output, predicted without sampling it."""

from tailbound.predictors.embeddings import DEFAULT_MODEL as DEFAULT_EMBEDDINGS
from tailbound.predictors.embeddings import EmbeddingFeatures
from tailbound.predictors.finetune import FinetunedFeatures
from tailbound.predictors.head import CalibrationBin, FittedPredictor, HeadScore, TrainingReport
from tailbound.predictors.novelty import NoveltyDetector
from tailbound.predictors.tfidf import TfidfFeatures
from tailbound.predictors.training import LOSSES, fit

__all__ = [
    "DEFAULT_EMBEDDINGS",
    "LOSSES",
    "CalibrationBin",
    "EmbeddingFeatures",
    "FinetunedFeatures",
    "FittedPredictor",
    "HeadScore",
    "NoveltyDetector",
    "TfidfFeatures",
    "TrainingReport",
    "fit",
]
