"""One alarm over all outcomes and over units of them (prompts, groups), with one probability.

Each unit, and all outcomes together, has an e-process; each holds a share of the evidence, and the
shares sum to at most 1. The weighted mean of e-processes of one stream is an e-process, so the
alarm "the mean reaches 1 / alpha" is ever false with probability at most alpha. A unit is named
where its own part of the mean reaches 1 / alpha alone: that is part of the same event, so the
probability that any unit is ever named falsely is at most alpha as well.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import UsageError
from tailbound.monitoring.e_process import EProcess, FloatArray, advance

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How the evidence is shared: one `overall`, `each` of `known` units, the rest by arrival.

    The k-th unit that is not among the known ones gets `new` / (k (k + 1)), which sums to `new`
    however many come.

    >>> Shares.of(by_unit=True, known=5).each
    0.05
    """

    overall: float
    known: int
    each: float
    new: float

    @classmethod
    def of(cls, *, by_unit: bool, known: int = 0) -> Shares:
        """Half for all outcomes together; the other half for units, where there are any."""
        if not by_unit:
            return cls(overall=1.0, known=0, each=0.0, new=0.0)
        if not known:
            return cls(overall=0.5, known=0, each=0.0, new=0.5)
        return cls(overall=0.5, known=known, each=0.25 / known, new=0.25)

    def of_new(self, k: int) -> float:
        """The share of the k-th unit that was not known in advance, k = 1, 2, ..."""
        return self.new / (k * (k + 1))


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The evidence of one unit, with its share of the whole."""

    process: EProcess
    share: float


@dataclass(frozen=True, kw_only=True)
class Watched(Generic[Name]):
    """What t outcomes did: the evidence of all, shape (t,), units after them, and who crossed.

    `crossed` holds the place in the t outcomes at which a unit's own part first reached 1 / alpha.
    """

    path: FloatArray
    units: dict[Name, Unit]
    crossed: dict[Name, int]


def watch(
    units: Mapping[Name, Unit],
    members: Mapping[Name, NDArray[np.int64]],
    factors: FloatArray,
    allowed: FloatArray,
    *,
    alpha: float,
) -> Watched[Name]:
    """Bring t outcomes into the e-processes of the units to which they belong.

    `units` are all units so far, those without an outcome too; `members` the places in the t
    outcomes, ascending, of each unit that has some; `factors`, shape (t, len(MULTIPLES)), and
    `allowed`, shape (t,), are those of `advance`.
    """
    check_alpha(alpha)
    after, crossed = dict(units), {}
    steps = np.zeros(len(allowed))
    for name, places in members.items():
        unit = units[name]
        process, path = advance(unit.process, factors[places], allowed=allowed[places])
        after[name] = Unit(process=process, share=unit.share)
        parts = np.concatenate(([unit.process.e_value], path)) * unit.share
        over = np.flatnonzero(parts[1:] >= 1 / alpha)
        if len(over):
            crossed[name] = int(places[over[0]])
        # what is beyond twice the limit adds nothing but rounding
        steps[places] += np.diff(np.minimum(parts, 2 / alpha))
    return Watched(path=total(units, alpha) + np.cumsum(steps), units=after, crossed=crossed)


def total(units: Mapping[Name, Unit], alpha: float) -> float:
    """The evidence of all units together: 1 before any outcome; parts count up to 2 / alpha."""
    parts = [min(unit.process.e_value * unit.share, 2 / alpha) for unit in units.values()]
    return 1 - sum(unit.share for unit in units.values()) + sum(parts)


def check_alpha(alpha: float) -> None:
    """Raise `UsageError` for a false-alarm probability that is none."""
    if not 1e-12 <= alpha < 1:
        raise UsageError(f"--alpha must lie in [1e-12, 1), not {alpha:g}")
