"""How far estimates lie from a truth, and what a given precision costs.

    relative error        e = sqrt(mean (estimate / risk - 1)^2)
    plain Monte Carlo     e = sqrt((1 - risk) / (draws risk)), exactly
    draws for an error    n = mean (draws e^2) / wanted^2, if errors fall as 1 / sqrt(draws)

Plain Monte Carlo is never measured by the spread of a few repeats: where an event is expected once
in a hundred runs, all of them say 0, and a relative error of 1 looks better than the true one of
10.

Where the truth is itself an estimate from draws, an estimate's distance from it is the noise of
both, so the error of a weighted estimate is then its own standard error over the risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson

WANTED = 0.3
"""The relative error whose cost studies report."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a prompt's estimates are compared with, a probability in [`lower`, `upper`].

    `draws` and `unsafe` count the plain draws that it comes from; both are None where it was
    computed, and the ends are then those of the computation.
    """

    risk: float
    lower: float
    upper: float
    draws: int | None = None
    unsafe: int | None = None

    @classmethod
    def computed(cls, lower: float, upper: float) -> Truth:
        """A risk that is known to lie between `lower` and `upper`.

        >>> Truth.computed(0.25, 0.75).risk
        0.5
        """
        return cls(risk=(lower + upper) / 2, lower=lower, upper=upper)

    @classmethod
    def counted(cls, unsafe: int, draws: int, *, confidence: float = 0.95) -> Truth:
        """Brute force: `unsafe` of `draws` plain draws, with Clopper and Pearson's interval.

        Raises `UsageError` for fewer than one draw.

        >>> Truth.counted(3, 1_000).risk
        0.003
        """
        if draws < 1:
            raise UsageError("a truth by brute force needs at least one draw with a verdict")
        lower, upper = clopper_pearson(unsafe, draws, confidence=confidence)
        return cls(
            risk=unsafe / draws,
            lower=float(lower),
            upper=float(upper),
            draws=draws,
            unsafe=unsafe,
        )

    @property
    def exact(self) -> bool:
        """Whether it was computed."""
        return self.draws is None

    @property
    def known(self) -> bool:
        """Whether there is a risk to compare with: brute force without an event shows none."""
        return self.risk > 0

    @property
    def standard_error(self) -> float:
        """Of `risk`, 0 where it was computed."""
        if self.draws is None:
            return 0.0
        return float(np.sqrt(self.risk * (1 - self.risk) / self.draws))


def plain_error(risk: float, draws: int) -> float:
    """Relative error of plain Monte Carlo: sqrt((1 - risk) / (draws risk)).

    >>> round(plain_error(0.01, 9_900), 6)
    0.1
    """
    return float(np.sqrt((1 - risk) / (draws * risk)))


def plain_draws(risk: float, *, wanted: float = WANTED) -> float:
    """Draws after which plain Monte Carlo has that relative error.

    >>> round(plain_draws(0.001, wanted=0.1))
    99900
    """
    return (1 - risk) / (risk * wanted**2)


def relative_error(
    estimates: ArrayLike, truth: Truth, *, standard_errors: Sequence[float | None]
) -> float | None:
    """Relative error of weighted estimates of one risk, from equally many draws each; both (R,).

    Against a computed truth: the root mean square of estimate / risk - 1. Against brute force: the
    root mean square of the standard errors, over the risk. None where the risk is not known, and,
    against brute force, where a run without hits shows no standard error.

    >>> exact = Truth.computed(0.1, 0.1)
    >>> round(relative_error([0.08, 0.12], exact, standard_errors=[None, None]), 6)
    0.2
    >>> counted = Truth.counted(100, 1_000)
    >>> round(relative_error([0.08, 0.12], counted, standard_errors=[0.01, 0.01]), 6)
    0.1
    """
    values = np.asarray(estimates, dtype=np.float64)
    if not truth.known or not values.size or np.isnan(values).any():
        return None
    if truth.exact:
        return float(np.sqrt(np.mean((values / truth.risk - 1) ** 2)))
    known = [error for error in standard_errors if error is not None]
    if len(known) < values.size:
        return None
    return float(np.sqrt(np.mean(np.square(known)))) / truth.risk


def draws_for(
    errors: Sequence[float | None], draws: Sequence[int], *, wanted: float = WANTED
) -> float | None:
    """Draws for the relative error `wanted`, from the errors (S,) at several numbers of draws.

    The mean of draws x error^2, over wanted^2. None where an error is not known.

    >>> round(draws_for([0.6, 0.3], [50, 200]))
    200
    """
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return None
    return float(np.mean(np.square(known) * np.asarray(draws))) / wanted**2


def tokens_for(
    wanted_draws: float, *, draws: int, tokens: float, once: float, prompts: int
) -> float:
    """Tokens per prompt that `wanted_draws` draws of it would cost.

    From a run with `draws` for each of `prompts` and `tokens` in all, `once` of which do not depend
    on the number of draws.

    >>> tokens_for(200, draws=100, tokens=9_000, once=1_000, prompts=4)
    4250.0
    """
    return (once + (tokens - once) * wanted_draws / draws) / prompts


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """The mean of the estimates of one risk, its standard error, and its z-score."""

    estimate: float
    standard_error: float | None
    z: float | None


def deviation(
    estimates: ArrayLike,
    truth: Truth,
    *,
    standard_errors: Sequence[float | None],
    plain_draws: int | None = None,
) -> Deviation:
    """The mean of independent estimates (R,) of one risk, and how far off it is.

    z = (mean - risk) / sqrt(its variance + that of the truth). `plain_draws`, those of each
    estimate, gives plain Monte Carlo the variance that the truth implies: it is wrong to read off a
    run without hits that there is none. z is None where a variance or the risk is not known.

    >>> one = deviation([0.12, 0.1], Truth.computed(0.1, 0.1), standard_errors=[0.02, 0.02])
    >>> round(one.estimate, 6), round(one.z, 6)
    (0.11, 0.707107)
    """
    values = np.asarray(estimates, dtype=np.float64)
    mean = float(values.mean()) if values.size else float("nan")
    known = [error for error in standard_errors if error is not None]
    error: float | None = None
    if plain_draws is not None and truth.known:
        spread = truth.risk * (1 - truth.risk) / (plain_draws * values.size)
        error = float(np.sqrt(spread))
    elif plain_draws is None and values.size and len(known) == values.size:
        error = float(np.sqrt(np.sum(np.square(known)))) / values.size
    z = None
    if error is not None and truth.known and np.isfinite(mean):
        whole = float(np.hypot(error, truth.standard_error))
        z = (mean - truth.risk) / whole if whole > 0 else None
    return Deviation(estimate=mean, standard_error=error, z=z)


def pooled_z(scores: Sequence[float]) -> float | None:
    """Sum of independent z-scores over the root of their number, itself a z-score; None without.

    >>> pooled_z([1.0, -2.0, 2.0, 1.0])
    1.0
    """
    return float(np.sum(scores) / np.sqrt(len(scores))) if scores else None
