"""Training: choose penalty and head by cross-validation, fit, and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from tailbound.core.extras import require
from tailbound.errors import UsageError
from tailbound.predictors.comparison import (
    HEADS,
    MOST_COORDINATES,
    RIDGE,
    FoldedCounts,
    compare,
)
from tailbound.predictors.head import (
    CalibrationBin,
    Correction,
    FittedPredictor,
    TrainingReport,
    check_features,
)
from tailbound.predictors.likelihood import (
    Array,
    deviance,
    geometric_counts,
    log_odds,
    pooled_rate,
)
from tailbound.predictors.ridge import RowSpace, fit_ridge, standardisation
from tailbound.survival.recalibration import RecalibratedHazard, recalibrate_hazard

Loss = Literal["binomial", "geometric"]
Head = Literal["auto", "ridge", "mlp", "boosting"]

LOSSES = ("binomial", "geometric")

PENALTIES: tuple[float, ...] = tuple(10.0 ** (exponent / 2) for exponent in range(8, -9, -1))
"""1e4 down to 1e-4; the features have mean square norm 1."""

EARLY_STOPPING_ROUNDS = 4
"""Penalties that are tried beyond the best one so far."""

MARGIN = 10.0
"""A prediction may pass the range of the training predictions by this factor and no further."""


def fit(
    features: ArrayLike,
    unsafe: ArrayLike,
    draws: ArrayLike,
    *,
    loss: Loss = "binomial",
    head: Head = "ridge",
    folds: int = 5,
    groups: Sequence[str] | None = None,
    rng: np.random.Generator | int | None = None,
) -> FittedPredictor:
    """Logistic regression of the unsafe counts on the features of the prompts.

    `features` has shape (prompts, dimension); `unsafe` events in `draws` draws with a verdict,
    both (prompts,), each prompt with a fixed number of draws (for draws that stopped at the first
    unsafe one the two losses are the same: use `binomial`). `loss` is described in
    `tailbound.predictors.likelihood`. The penalty minimises the `folds`-fold cross-validated
    deviance; where one rate for all prompts does as well, that is the fit. Prompts of one of
    `groups`, shape (prompts,), stay in one fold.

    Prompts without an event are shrunk towards the pooled rate three ways: by the penalty; by
    half an event (Jeffreys), spread over all prompts at the pooled rate; and by holding
    predictions to the range of the training predictions, widened by a factor of ten in the odds.
    So p_hat is never 0, also where no prompt had an event. Last, out-of-fold predictions are
    recalibrated against the counts (`tailbound.survival.recalibrate_hazard`): a strictly
    increasing map, which keeps the order of the prompts and becomes part of the predictor.

    `head` is what predicts: `ridge`, the regression itself; `mlp` or `boosting`, a small network or
    boosted trees (extra `tfidf`) on top of it; or `auto`, which takes another than ridge only
    where its out-of-fold deviance is lower by more than two standard errors of the difference. The
    report has the comparison.

    Raises `UsageError` where shapes disagree, a feature is not finite, or there are no draws, and
    `MissingExtraError` where trees are asked for without scikit-learn.
    """
    x = check_features(features)
    k, n = _counts(unsafe, draws, len(x))
    _check_options(loss, head, folds)
    events, trials = geometric_counts(k, n) if loss == "geometric" else (k, n)
    names = groups if groups is not None else range(len(x))
    fold = _folds(names, folds, rng)
    space = RowSpace.of(x)
    ridge = _RidgeFit.of(space.coordinates, events, trials, fold)
    rotation = _leading(x, space)
    data = FoldedCounts(
        z=(x - space.mean) @ rotation,
        events=events,
        draws=trials,
        fold=fold,
        offsets=np.array([one[0] + space.coordinates @ one[1:] for one in ridge.without]),
        offset=ridge.fitted,
    )
    candidate, compared, why = compare(
        data,
        head,
        prompts_unsafe=int((k > 0).sum()),
        units=np.unique(np.asarray(names), return_inverse=True)[1],
        ridge="one rate for all" if ridge.penalty is None else f"penalty {ridge.penalty:g}",
    )
    added = candidate.fit()
    chosen = RIDGE if added is None else candidate.name
    eta, fitted = ridge.held_out, ridge.fitted
    if added is not None:
        eta, fitted = candidate.log_odds, fitted + added(data.z)
    low, high = fitted.min() - np.log(MARGIN), fitted.max() + np.log(MARGIN)
    held_out = expit(np.clip(eta, low, high))
    report = TrainingReport(
        loss=loss,
        prompts=len(x),
        draws=int(n.sum()),
        events=int(k.sum()),
        quiet=float((k == 0).mean()),
        folds=int(fold.max()) + 1,
        components=space.coordinates.shape[1],
        penalty=ridge.penalty,
        deviance=deviance(eta, events, trials),
        constant_deviance=ridge.constant_deviance,
        pooled_rate=pooled_rate(events, trials),
        smallest=float(expit(low)),
        largest=float(min(expit(high), 1 - 1e-9)),
        bins=_bins(held_out, k, n),
        head=chosen,
        heads=compared,
        choice=why,
    )
    return FittedPredictor(
        mean=space.mean,
        weights=space.rotation @ ridge.weights[1:],
        intercept=float(ridge.weights[0]),
        held_out=held_out,
        recalibration=(
            recalibrate_hazard(held_out, k, n)
            if report.recalibrated
            else RecalibratedHazard.identity()
        ),
        report=report,
        correction=None if added is None else Correction(rotation, added),
    )


def _check_options(loss: str, head: str, folds: int) -> None:
    if loss not in LOSSES:
        raise UsageError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")
    if head not in HEADS:
        raise UsageError(f"head must be one of {', '.join(HEADS)}, not {head!r}")
    if head == "boosting":
        require("the head boosting", "tfidf")
    if folds < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, not {folds}")


@dataclass(frozen=True, eq=False)
class _RidgeFit:
    """The ridge head: `weights`, (1 + components,), to all prompts, and `without` each fold.

    `held_out` and `fitted` are log-odds of the training prompts, out of fold and in sample.
    """

    penalty: float | None
    weights: Array
    without: list[Array]
    held_out: Array
    fitted: Array
    constant_deviance: float

    @classmethod
    def of(cls, x: Array, events: Array, draws: Array, fold: NDArray[np.int64]) -> _RidgeFit:
        """With the penalty of least held-out deviance, or one rate for all where that is less."""
        held_out, constant, without = _cross_validate(x, events, draws, fold)
        scores = np.array([deviance(eta, events, draws) for eta in held_out])
        constant_score = deviance(constant, events, draws)
        best = int(scores.argmin()) if held_out else -1
        if best >= 0 and scores[best] < constant_score:
            ridge = _Ridge(x, events, draws)
            for step in PENALTIES[: best + 1]:
                weights = ridge.descend(step)
            penalty, eta, each = PENALTIES[best], held_out[best], without[best]
        else:
            parts = [fold != number for number in range(int(fold.max()) + 1)]
            weights = _constant(pooled_rate(events, draws), x)
            each = [_constant(pooled_rate(events[seen], draws[seen]), x) for seen in parts]
            penalty, eta = None, constant
        return cls(penalty, weights, each, eta, weights[0] + x @ weights[1:], constant_score)


def _constant(rate: float, coordinates: Array) -> Array:
    """Intercept and weights of one rate for all prompts."""
    solution = np.zeros(1 + coordinates.shape[1])
    solution[0] = log_odds(rate)
    return solution


def _leading(x: Array, space: RowSpace) -> Array:
    """The map from features to what networks and trees read, shape (dimension, coordinates).

    The standardised features themselves where they are few, else their leading directions; rows of
    the result have mean square norm 1.
    """
    if x.shape[1] <= MOST_COORDINATES:
        rotation = np.diag(standardisation(x)[1])
    else:
        rotation = space.rotation[:, :MOST_COORDINATES]
    z = (x - space.mean) @ rotation
    size = float(np.sqrt(np.square(z).sum(axis=1).mean())) if z.size else 1.0
    return np.asarray(rotation / (size or 1.0), dtype=np.float64)


def _counts(unsafe: ArrayLike, draws: ArrayLike, prompts: int) -> tuple[Array, Array]:
    k = np.asarray(unsafe, dtype=np.float64)
    n = np.asarray(draws, dtype=np.float64)
    if k.shape != (prompts,) or n.shape != (prompts,):
        raise UsageError(
            f"features of {prompts} prompts need unsafe and draws of shape ({prompts},), "
            f"not {k.shape} and {n.shape}"
        )
    if not ((k >= 0) & (k <= n)).all():
        where = int(np.flatnonzero(~((k >= 0) & (k <= n)))[0])
        raise UsageError(f"prompt {where} has {k[where]:g} unsafe in {n[where]:g} draws")
    if n.sum() == 0:
        raise UsageError("there is no draw with a verdict to train on: did the judge fail?")
    return k, n


def _folds(
    groups: Sequence[str] | range, folds: int, rng: np.random.Generator | int | None
) -> NDArray[np.int64]:
    """The fold of each prompt, shape (prompts,): units in random order, dealt round."""
    units, unit = np.unique(np.asarray(groups), return_inverse=True)
    dealt = np.arange(len(units)) % min(folds, len(units))
    return np.random.default_rng(rng).permutation(dealt)[unit].astype(np.int64)


def _cross_validate(
    x: Array, events: Array, draws: Array, fold: NDArray[np.int64]
) -> tuple[list[Array], Array, list[list[Array]]]:
    """Held-out log-odds for the leading penalties, and those of the constant, all (prompts,).

    Last, intercept and weights without each fold, by penalty.

    Stops where the held-out deviance has passed its minimum. With one unit, or without an event,
    there is nothing to learn: no penalty is tried.
    """
    constant = np.full(len(x), log_odds(pooled_rate(events, draws)))
    if fold.max() == 0 or events.sum() == 0:
        return [], constant, []
    parts = [(fold != number, fold == number) for number in range(int(fold.max()) + 1)]
    for seen, unseen in parts:
        constant[unseen] = log_odds(pooled_rate(events[seen], draws[seen]))
    fits = [_Ridge(x[seen], events[seen], draws[seen]) for seen, _ in parts]
    held_out: list[Array] = []
    scores: list[float] = []
    without: list[list[Array]] = []
    for penalty in PENALTIES:
        eta = np.empty(len(x))
        without.append([ridge.descend(penalty) for ridge in fits])
        for (_, unseen), weights in zip(parts, without[-1], strict=True):
            eta[unseen] = weights[0] + x[unseen] @ weights[1:]
        held_out.append(eta)
        scores.append(deviance(eta, events, draws))
        if len(scores) - 1 - int(np.argmin(scores)) >= EARLY_STOPPING_ROUNDS:
            break
    return held_out, constant, without


class _Ridge:
    """Solutions for descending penalties, each started from the one before.

    Half an event, at the pooled rate, is spread evenly over the prompts.
    """

    def __init__(self, x: Array, events: Array, draws: Array) -> None:
        rate = pooled_rate(events, draws)
        extra = 0.5 / len(x)
        self._x = x
        self._events = events + extra
        self._draws = draws + extra / rate
        self._weights = np.zeros(1 + x.shape[1])
        self._weights[0] = log_odds(rate)

    def descend(self, penalty: float) -> Array:
        """Intercept and weights at `penalty`, shape (1 + components,)."""
        self._weights = fit_ridge(self._x, self._events, self._draws, penalty, self._weights)
        return self._weights


def _bins(p_hat: Array, events: Array, draws: Array) -> tuple[CalibrationBin, ...]:
    """Up to ten bins of equal size by p_hat, at least ten prompts in each."""
    order = np.argsort(p_hat, kind="stable")
    parts = np.array_split(order, max(1, min(10, len(order) // 10)))
    return tuple(
        CalibrationBin(
            prompts=len(part),
            predicted=float(np.average(p_hat[part], weights=np.maximum(draws[part], 1e-9))),
            observed=float(events[part].sum() / draws[part].sum()) if draws[part].sum() else 0.0,
            draws=int(draws[part].sum()),
            events=int(events[part].sum()),
        )
        for part in parts
    )
