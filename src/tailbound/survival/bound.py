"""The calibrated lower predictive bound, as a value."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.survival.designs import reliable_weight
from tailbound.survival.geometric import IntArray
from tailbound.survival.predicted import Geometric, PredictedTimes

SCHEMA = 1

LimitedBy = Literal["alpha", "max_level", "cap", "max_draws"]


@dataclass(frozen=True, kw_only=True)
class LowerPredictiveBound:
    """L(x) = min(quantile of T at `level` under p_hat(x), `cap`), with what it rests on.

    `level` is the calibrated quantile level tau_hat (0: no level qualified, and L = 1), `cap` the
    longest bound that the design allows. `limited_by` says what kept the bound from being longer.
    `planned` and `spent` are draws in total: expected by the design, and used by the estimate.
    `weight_bound` is the largest inverse selection probability that could occur. `miscoverage` is
    the weighted estimate of P(T < L) on the calibration prompts at `level`, `prompts_needed` the
    number of calibration prompts from which on some level can qualify at all. `replicates` is the
    number of independent times that each prompt could bring (`planned` are then expected real
    draws), `n_selected` counts prompts of which one or more were followed.

    >>> bound = LowerPredictiveBound(
    ...     level=0.1, cap=5000, limited_by="alpha", alpha=0.1, guarantee="plug-in", delta=0.1,
    ...     design="balanced", planned=50_000.0, spent=38_108, n_calibration=1000,
    ...     n_selected=778, weight_bound=25.0, miscoverage=0.099, prompts_needed=1,
    ... )
    >>> bound.predict([0.01, 0.0001, 0.000001]).tolist()
    [11, 1054, 5000]
    >>> LowerPredictiveBound.from_json(bound.to_json()) == bound
    True
    """

    level: float
    cap: int
    limited_by: LimitedBy
    alpha: float
    guarantee: str
    delta: float
    design: str
    planned: float
    spent: int
    n_calibration: int
    n_selected: int
    weight_bound: float
    miscoverage: float
    prompts_needed: int
    replicates: int = 1

    def predict(self, p_hat: ArrayLike | PredictedTimes) -> IntArray:
        """L for prompts with predicted risks `p_hat` in (0, 1], shape (n,); int64, at least 1.

        Other predictions than risks are given as `PredictedTimes`.
        """
        time = check_predictions(p_hat, "p_hat").quantile(self.level)
        return np.minimum(time, self.cap).astype(np.int64)

    @property
    def statement(self) -> str:
        """The guarantee in one sentence, or that there is none."""
        target = f"{1 - self.alpha:.4g}"
        if self.level == 0:
            return (
                "Every bound is 1, which holds whatever the model does (T >= 1): no longer one "
                f"could be stated at coverage {target}."
            )
        if self.design == "importance":
            return (
                f"On average over calibrations, the coverage P(T >= L) of new prompts is about "
                f"{target}, as far as the weighted draws met every way to be unsafe."
            )
        if self.guarantee == "marginal":
            return (
                f"In expectation over calibrations, the coverage P(T >= L) of new prompts is at "
                f"least {target} (conformal risk control; exact for finite samples)."
            )
        if self.guarantee == "pac":
            return (
                f"With probability at least {1 - self.delta:.4g} over the calibration draws, the "
                f"coverage P(T >= L) of new prompts is at least {target} (for finite samples)."
            )
        # Events that weigh w are all missed, up to a miscoverage of m, in (1 - m)^(N / w) of the
        # calibrations. At the worst m that costs w / (e N): it must not be more than alpha.
        share = 2.0 if self.design == "balanced" else 4.0
        usual = reliable_weight(self.alpha, self.n_calibration, share=share)
        usual = min(usual, math.e * self.alpha * self.n_calibration)
        if self.weight_bound > usual * (1 + 1e-9):
            without = math.isinf(self.weight_bound)
            weights = "without a bound" if without else f"up to {self.weight_bound:.3g}"
            return (
                f"No coverage is assured: weights of the design {self.design} are {weights}, and "
                f"those above {usual:.3g} are met too rarely among {self.n_calibration} prompts. "
                f"The coverage P(T >= L) of new prompts may be far below {target}."
            )
        return (
            f"On average over calibrations, the coverage P(T >= L) of new prompts is about "
            f"{target}; about half of all calibrations fall slightly below."
        )

    def to_json(self) -> str:
        """One JSON object; `from_json` reads it back."""
        document = {"schema": SCHEMA, **asdict(self)}
        if math.isinf(self.weight_bound):
            document["weight_bound"] = None  # JSON has no infinity
        return json.dumps(document, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> LowerPredictiveBound:
        """Inverse of `to_json`; raises `UsageError` for anything else."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document.pop("schema") != SCHEMA:
                raise UsageError("the bound was written by another version of tailbound")
            if document["weight_bound"] is None:
                document["weight_bound"] = math.inf
            known = {field.name for field in fields(cls)}
            return cls(**{key: value for key, value in document.items() if key in known})
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"this is not a bound written by tailbound: {error}") from error


def check_predictions(values: ArrayLike | PredictedTimes, name: str) -> PredictedTimes:
    """`values` as predictions: themselves, or `Geometric` of checked probabilities."""
    if isinstance(values, PredictedTimes):
        return values
    return Geometric(check_probabilities(values, name))


def check_probabilities(values: ArrayLike, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`values` as float64 of shape (n,), each in (0, 1]; raises `UsageError` otherwise."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UsageError(f"{name} must be a vector, not an array of shape {array.shape}")
    wrong = np.flatnonzero(~((array > 0) & (array <= 1)))
    if wrong.size:
        value = float(array[wrong[0]])
        cure = "give a small positive number instead of 0" if value == 0 else "correct it"
        shown = "NaN" if math.isnan(value) else f"{value:g}"
        raise UsageError(
            f"{name}[{int(wrong[0])}] is {shown}, not a probability in (0, 1]: {cure} "
            f"({wrong.size} of {array.size} values are wrong)"
        )
    return array
