"""A fitted predictor: a head on features, and the report of its training."""

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
from tailbound.predictors.boosting import BoostedTrees
from tailbound.predictors.network import Network
from tailbound.storage.documents import understood
from tailbound.storage.plain import from_plain
from tailbound.survival.recalibration import RecalibratedHazard

SCHEMA_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Training prompts with similar out-of-fold p_hat: what was predicted, and what happened."""

    prompts: int
    predicted: float
    observed: float
    draws: int
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadScore:
    """How well one head predicts the training prompts out of fold.

    `deviance` as in `TrainingReport`, all heads on the same folds; `difference` is what it has more
    than the ridge head, and `standard_error` that of the difference, prompts (or their groups) the
    units. The three are None for a head that was not compared. `setting` says what
    cross-validation chose for it, or why it was not compared.
    """

    name: str
    deviance: float | None
    difference: float | None
    standard_error: float | None
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """How well p_hat predicts prompts that it was not trained on, before it is recalibrated.

    `deviance` is that of the out-of-fold predictions (twice the log-likelihood that they lose to
    the observed rates) under the loss that was trained with; `constant_deviance` that of one rate
    for all prompts, held out too; `explained` is 1 - deviance / constant_deviance. `penalty`
    is the ridge penalty that cross-validation chose, None where the constant was best. `head` is
    the head that predicts, `heads` are those that were compared, and `choice` says why it is that
    one. `quiet` is the share of prompts without an event. `smallest` and `largest` are the ends
    that every prediction is held to. `bins` compare predictions with what happened.
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
    head: str
    heads: tuple[HeadScore, ...]
    choice: str

    @property
    def recalibrated(self) -> bool:
        """Whether predictions are recalibrated: one rate for all is that of the counts as it is."""
        return self.penalty is not None or self.head != "ridge"

    @property
    def explained(self) -> float:
        """Share of the constant predictor's held-out deviance that the features explain."""
        return 1 - self.deviance / self.constant_deviance if self.constant_deviance > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `explained` among them."""
        values = asdict(self)
        values["bins"] = [asdict(one) for one in self.bins]
        values["heads"] = [asdict(one) for one in self.heads]
        values["explained"] = self.explained
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingReport:
        """Inverse of `to_dict`."""
        kept = {name: value for name, value in values.items() if name != "explained"}
        return from_plain(cls, kept)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Correction:
    """What another head than ridge adds to its log-odds: `function` of z = (x - mean) @ rotation.

    `rotation` has shape (dimension, coordinates).
    """

    rotation: NDArray[np.float64]
    function: Network | BoostedTrees

    def __call__(self, centred: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log-odds to add for x - mean, shape (prompts, dimension); shape (prompts,)."""
        return self.function(centred @ self.rotation)


_FUNCTIONS: dict[str, type[Network] | type[BoostedTrees]] = {
    "mlp": Network,
    "boosting": BoostedTrees,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedPredictor:
    """p_hat(x): expit(intercept + (x - mean) . weights), held to a range, then recalibrated.

    The range is [report.smallest, report.largest]. `mean` and `weights` have shape (dimension,).
    `correction` is added to the log-odds where another head than ridge was chosen, else None.
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
    correction: Correction | None = None

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
        eta = self.intercept + (x - self.mean) @ self.weights
        if self.correction is not None:
            eta = eta + self.correction(x - self.mean)
        p: NDArray[np.float64] = expit(eta)
        return self.recalibration(np.clip(p, self.report.smallest, self.report.largest))

    def save(self, path: str | PathLike[str]) -> None:
        """Write an `.npz` file (arrays and JSON, nothing pickled), atomically."""
        document = {
            "schema": SCHEMA_VERSION,
            "intercept": self.intercept,
            "slope": self.recalibration.slope,
            "report": self.report.to_dict(),
        }
        more: dict[str, NDArray[Any]] = {}
        if self.correction is not None:
            more = {"rotation": self.correction.rotation, **self.correction.function.arrays()}
        save_arrays(
            Path(path),
            document,
            mean=self.mean,
            weights=self.weights,
            held_out=self.held_out,
            log_odds=self.recalibration.log_odds,
            recalibrated=self.recalibration.recalibrated,
            **more,
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FittedPredictor:
        """Read what `save` wrote.

        Raises `UsageError` where there is no such file, and `LedgerError` where it is damaged:
        every shape, range and number is checked.
        """
        document, arrays = load_arrays(Path(path), SCHEMA_VERSION, "a predictor")
        with understood(Path(path)):
            return _predictor(document, arrays)


def _predictor(document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FittedPredictor:
    """What was saved; raises `ValueError`, `KeyError` or `TypeError` where it cannot be that."""
    report = TrainingReport.from_dict(document["report"])
    mean, weights, held_out, log_odds, recalibrated = (
        _finite(arrays, name)
        for name in ("mean", "weights", "held_out", "log_odds", "recalibrated")
    )
    intercept, slope = float(document["intercept"]), float(document["slope"])
    if weights.shape != mean.shape or held_out.size != report.prompts:
        raise ValueError("arrays of different lengths")
    if not (np.isfinite(intercept) and 0 < slope < np.inf):
        raise ValueError("an intercept or a slope out of range")
    if not 0 < report.smallest <= report.largest < 1:
        raise ValueError("ends of the predictions out of range")
    if ((held_out <= 0) | (held_out > 1)).any():
        raise ValueError("predictions that are no probabilities")
    if log_odds.size == 0 or log_odds.shape != recalibrated.shape:
        raise ValueError("a recalibration without points")
    if (np.diff(log_odds) < 0).any() or (np.diff(recalibrated) < 0).any():
        raise ValueError("a recalibration that does not increase")
    correction = None
    if report.head != "ridge":
        rotation = _finite(arrays, "rotation", dimensions=2)
        if len(rotation) != len(mean):
            raise ValueError("a rotation of another dimension")
        made = _FUNCTIONS[report.head].from_arrays(arrays, rotation.shape[1])
        correction = Correction(rotation, made)
    return FittedPredictor(
        mean=mean,
        weights=weights,
        intercept=intercept,
        held_out=held_out,
        recalibration=RecalibratedHazard(log_odds, recalibrated, slope),
        report=report,
        correction=correction,
    )


def _finite(
    arrays: dict[str, NDArray[Any]], name: str, *, dimensions: int = 1
) -> NDArray[np.float64]:
    values = arrays[name]
    if values.dtype != np.float64 or values.ndim != dimensions or not np.isfinite(values).all():
        raise ValueError(f"{name} is not {dimensions} dimensions of finite numbers")
    return values


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
