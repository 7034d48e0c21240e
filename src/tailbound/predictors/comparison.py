"""Which head predicts best: ridge, or what a network or boosted trees add to it.

All heads are compared by the deviance of their out-of-fold predictions on the same folds. Another
head than ridge is chosen only where its deviance is lower by more than two standard errors of the
difference and by more than one nat, so that noise does not choose. One standard error would not do:
penalties and numbers of trees are chosen by the same deviance, which flatters the best of many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from tailbound.predictors.boosting import MOST_TREES, PATIENCE, BoostedTrees, Boosting
from tailbound.predictors.head import HeadScore
from tailbound.predictors.likelihood import Array, deviance, deviances, pooled_rate
from tailbound.predictors.network import NETWORK_PENALTIES, Network, fit_network

RIDGE, MLP, BOOSTING, AUTO = "ridge", "mlp", "boosting", "auto"
HEADS = (AUTO, RIDGE, MLP, BOOSTING)

LEAST_PROMPTS, LEAST_UNSAFE = 60, 20
"""Training prompts, and training prompts with an unsafe draw, from which on `auto` compares."""

MOST_COORDINATES = 32
"""Of the features that networks and trees read: the leading ones."""

STANDARD_ERRORS = 2.0
"""Of the difference: the least that another head than ridge must gain."""
ONE_NAT = 2.0
"""In deviance, likewise."""

_WORSE = 2
"""Penalties that are tried beyond the best one so far."""


@dataclass(frozen=True, eq=False)
class FoldedCounts:
    """Training data with its folds, and the ridge fit of each: all that the heads start from.

    `z` are coordinates, shape (prompts, coordinates); `events` in `draws` and `fold`, (prompts,).
    `offsets` holds the log-odds of all prompts by the ridge fit without each fold, (folds,
    prompts), and `offset`, (prompts,), those of the fit to all of them.
    """

    z: Array
    events: Array
    draws: Array
    fold: NDArray[np.int64]
    offsets: Array
    offset: Array

    @property
    def ridge(self) -> Array:
        """Out-of-fold log-odds of the ridge head, shape (prompts,)."""
        return np.asarray(self.offsets[self.fold, np.arange(len(self.fold))], dtype=np.float64)

    def smoothed(self, rows: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Counts of `rows` with half an event at the pooled rate, spread over them."""
        events, draws = self.events[rows], self.draws[rows]
        extra = 0.5 / len(events)
        return events + extra, draws + extra / pooled_rate(events, draws)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head: its out-of-fold log-odds, (prompts,), its setting, and how to fit it to all prompts.

    `fit` returns what to add to the log-odds of the ridge fit, None for nothing.
    """

    name: str
    log_odds: Array
    setting: str
    fit: Callable[[], Network | BoostedTrees | None]


def compare(
    data: FoldedCounts, head: str, *, prompts_unsafe: int, units: NDArray[np.int64], ridge: str
) -> tuple[Candidate, tuple[HeadScore, ...], str]:
    """The head that `head` asks for, the scores of all that were compared, and why it is that one.

    `prompts_unsafe` prompts had an unsafe draw. `units`, shape (prompts,), numbers the groups of
    prompts that are independent of each other, the units of standard errors. `ridge` describes the
    setting of the ridge head.
    """
    plain = Candidate(RIDGE, data.ridge, ridge, lambda: None)
    if head == RIDGE:
        return plain, (_score(plain, data, units),), "ridge was asked for"
    if head == AUTO and (len(data.z) < LEAST_PROMPTS or prompts_unsafe < LEAST_UNSAFE):
        why = (
            f"too few training prompts to compare: {LEAST_PROMPTS} are needed, {LEAST_UNSAFE} of "
            "them with an unsafe draw"
        )
        return plain, (_score(plain, data, units),), why
    if data.events.sum() == 0 or len(data.offsets) < 2 or not data.z.shape[1]:
        return plain, (_score(plain, data, units),), "there is nothing to learn from the features"
    candidates, scores = [plain], [_score(plain, data, units)]
    makers = {MLP: network_candidate, BOOSTING: boosting_candidate}
    for name, maker in makers.items():
        if head not in (AUTO, name):
            continue
        if name == BOOSTING and find_spec("sklearn") is None:
            why = "not compared: scikit-learn is not installed (extra tfidf)"
            scores.append(
                HeadScore(
                    name=name, deviance=None, difference=None, standard_error=None, setting=why
                )
            )
            continue
        candidates.append(maker(data))
        scores.append(_score(candidates[-1], data, units))
    if head != AUTO:
        return candidates[-1], tuple(scores), f"{head} was asked for"
    chosen, why = choose(scores)
    return next(one for one in candidates if one.name == chosen), tuple(scores), why


def choose(scores: Sequence[HeadScore]) -> tuple[str, str]:
    """The name of the best head by the rule of two standard errors, and why.

    >>> ridge = HeadScore(
    ...     name="ridge", deviance=90.0, difference=0.0, standard_error=0.0, setting="penalty 1"
    ... )
    >>> other = HeadScore(
    ...     name="mlp", deviance=80.0, difference=-10.0, standard_error=12.0, setting="penalty 4"
    ... )
    >>> choose([ridge, other])
    ('ridge', 'no other head is better than ridge by more than two standard errors')
    """
    lower = [
        (one.deviance, one.name, -one.difference, one.standard_error)
        for one in scores
        if one.deviance is not None
        and one.difference is not None
        and one.standard_error is not None
        and -one.difference > max(STANDARD_ERRORS * one.standard_error, ONE_NAT)
    ]
    if not lower:
        return RIDGE, "no other head is better than ridge by more than two standard errors"
    _, name, gain, error = min(lower)
    return name, (
        f"out-of-fold deviance {gain:.4g} below that of ridge, standard error {error:.2g}"
    )


def _score(one: Candidate, data: FoldedCounts, units: NDArray[np.int64]) -> HeadScore:
    """The deviance of a head beside that of ridge; the standard error over `units`."""
    mine = deviances(one.log_odds, data.events, data.draws)
    more = np.bincount(units, weights=mine - deviances(data.ridge, data.events, data.draws))
    error = float(more.std(ddof=1) * np.sqrt(len(more))) if len(more) > 1 else 0.0
    return HeadScore(
        name=one.name,
        deviance=deviance(one.log_odds, data.events, data.draws),
        difference=float(more.sum()),
        standard_error=error,
        setting=one.setting,
    )


def network_candidate(data: FoldedCounts) -> Candidate:
    """The network whose penalty has the least out-of-fold deviance."""
    every = np.ones(len(data.z), dtype=np.bool_)

    def fitted(rows: NDArray[np.bool_], offset: Array, penalty: float) -> Network:
        events, draws = data.smoothed(rows)
        return fit_network(data.z[rows], offset[rows], events, draws, penalty)

    found: list[Array] = []
    scores: list[float] = []
    for penalty in NETWORK_PENALTIES:
        eta = np.empty(len(data.z))
        for number, offset in enumerate(data.offsets):
            unseen = data.fold == number
            eta[unseen] = (offset + fitted(~unseen, offset, penalty)(data.z))[unseen]
        found.append(eta)
        scores.append(deviance(eta, data.events, data.draws))
        if len(scores) - 1 - int(np.argmin(scores)) >= _WORSE:
            break
    best = int(np.argmin(scores))
    penalty = NETWORK_PENALTIES[best]
    return Candidate(
        MLP, found[best], f"penalty {penalty:g}", lambda: fitted(every, data.offset, penalty)
    )


def boosting_candidate(data: FoldedCounts) -> Candidate:
    """The trees whose number has the least out-of-fold deviance; needs scikit-learn."""

    def begun(rows: NDArray[np.bool_], offset: Array) -> Boosting:
        return Boosting(data.z[rows], offset[rows], *data.smoothed(rows))

    folds = [begun(data.fold != number, offset) for number, offset in enumerate(data.offsets)]
    eta = data.ridge
    best, trees, least = eta, 0, deviance(eta, data.events, data.draws)
    for number in range(1, MOST_TREES + 1):
        eta = eta.copy()
        for place, boosting in enumerate(folds):
            unseen = data.fold == place
            eta[unseen] += boosting.grow()(data.z[unseen])
        score = deviance(eta, data.events, data.draws)
        if score < least:
            best, trees, least = eta, number, score
        elif number - trees >= PATIENCE:
            break

    def fit() -> BoostedTrees | None:
        if trees == 0:
            return None
        whole = begun(np.ones(len(data.z), dtype=np.bool_), data.offset)
        for _ in range(trees):
            whole.grow()
        return whole.trees()

    return Candidate(BOOSTING, best, f"{trees} tree{'' if trees == 1 else 's'}", fit)
