"""A fitted predictor: a linear head on features, and the report of its training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from tailbound.errors import UsageError
from tailbound.predictors.arrays import load_arrays, save_arrays
from tailbound.survival.recalibration import RecalibratedHazard

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Training prompts with similar out-of-fold p_hat: what was predicted, and what happened."""

    prompts: int
    predicted: float
    observed: float
    draws: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """How well p_hat predicts prompts that it was not trained on, before it is recalibrated.

    `deviance` is that of the out-of-fold predictions (twice the log-likelihood that they lose to
    the observed rates) under the loss that was trained with; `constant_deviance` that of one rate
    for all prompts, held out too; `explained` is 1 - deviance / constant_deviance. `penalty`
    is the ridge penalty that cross-validation chose, None where the constant was best. `quiet` is
    the share of prompts without an event. `smallest` and `largest` are the ends that every
    prediction is held to. `bins` compare predictions with what happened.
    """

    loss: str
    prompts: int
    draws: int
    events: int
    quiet: float
    folds: int
    components: int
    penalty: float | None
    deviance: float
    constant_deviance: float
    pooled_rate: float
    smallest: float
    largest: float
    bins: tuple[CalibrationBin, ...]

    @property
    def explained(self) -> float:
        """Share of the constant predictor's held-out deviance that the features explain."""
        return 1 - self.deviance / self.constant_deviance if self.constant_deviance > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `explained` among them."""
        values = asdict(self)
        values["bins"] = [asdict(one) for one in self.bins]
        values["explained"] = self.explained
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingReport:
        """Inverse of `to_dict`."""
        kept = {name: value for name, value in values.items() if name != "explained"}
        kept["bins"] = tuple(CalibrationBin(**one) for one in values["bins"])
        return cls(**kept)


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedPredictor:
    """p_hat(x): expit(intercept + (x - mean) . weights), held to a range, then recalibrated.

    The range is [report.smallest, report.largest]. `mean` and `weights` have shape (dimension,).
    `held_out` are predictions for the training prompts before they are recalibrated, shape
    (prompts,), each from a fit that saw neither the prompt nor its group. `recalibration` maps
    them to the rates that were observed; it keeps the order of the prompts.
    """

    mean: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float
    held_out: NDArray[np.float64]
    recalibration: RecalibratedHazard
    report: TrainingReport

    @property
    def out_of_fold(self) -> NDArray[np.float64]:
        """p_hat of the training prompts, shape (prompts,): `held_out`, recalibrated."""
        return self.recalibration(self.held_out)

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """p_hat for features of shape (prompts, dimension), shape (prompts,), in (0, 1).

        Raises `UsageError` where the dimension differs or a feature is not finite.
        """
        x = check_features(features)
        if x.shape[1] != len(self.weights):
            raise UsageError(
                f"the predictor was trained on {len(self.weights)} features per prompt, and these "
                f"have {x.shape[1]}: use the target that it was trained with"
            )
        p: NDArray[np.float64] = expit(self.intercept + (x - self.mean) @ self.weights)
        return self.recalibration(np.clip(p, self.report.smallest, self.report.largest))

    def save(self, path: str | PathLike[str]) -> None:
        """Write an `.npz` file (arrays and JSON, nothing pickled), atomically."""
        document = {
            "schema": SCHEMA_VERSION,
            "intercept": self.intercept,
            "slope": self.recalibration.slope,
            "report": self.report.to_dict(),
        }
        save_arrays(
            Path(path),
            document,
            mean=self.mean,
            weights=self.weights,
            held_out=self.held_out,
            log_odds=self.recalibration.log_odds,
            recalibrated=self.recalibration.recalibrated,
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FittedPredictor:
        """Read what `save` wrote; raises `UsageError` where that is not what the file is."""
        document, arrays = load_arrays(Path(path), SCHEMA_VERSION, "a predictor")
        return cls(
            mean=arrays["mean"],
            weights=arrays["weights"],
            intercept=float(document["intercept"]),
            held_out=arrays["held_out"],
            recalibration=RecalibratedHazard(
                arrays["log_odds"], arrays["recalibrated"], float(document["slope"])
            ),
            report=TrainingReport.from_dict(document["report"]),
        )


def check_features(features: ArrayLike) -> NDArray[np.float64]:
    """Features as float64 of shape (prompts, dimension), all finite; `UsageError` otherwise."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise UsageError(f"features must have shape (prompts, dimension), not {x.shape}")
    wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if wrong.size:
        raise UsageError(
            f"the features of prompt {int(wrong[0])} are not finite ({wrong.size} of {len(x)} "
            "prompts): did the model overflow? Try another dtype"
        )
    return x
