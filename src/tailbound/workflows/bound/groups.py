"""The groups within which a bound holds, and the calibration by them.

`--coverage-by p_hat:K` divides prompts at quantiles of the predictions for training prompts,
`--coverage-by COLUMN` by a column of the prompt file. Without either there is one calibration for
all prompts. Either way the job asks the same of it: a bound for each prompt of a part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import UnreachableError
from tailbound.storage.plain import from_plain
from tailbound.survival import (
    CalibrationRecord,
    GroupCalibration,
    GroupedBound,
    LowerPredictiveBound,
    bound_at,
    calibrate_by_group,
    calibrate_with_record,
    group_of,
    numbers_of,
    p_hat_edges,
    required,
)
from tailbound.survival.geometric import IntArray
from tailbound.survival.record import Observe
from tailbound.workflows.bound.parts import PromptSplit
from tailbound.workflows.bound.settings import BoundSettings


@dataclass(frozen=True, kw_only=True)
class Groups:
    """How prompts are divided, and the bound of each group.

    `by` is what was asked for: `p_hat:K`, or a column of the prompts. `edges` are the inner ends of
    groups by p_hat, ascending; an edge belongs to the group below it. There are fewer than K groups
    where some were too small and were merged. Groups by a column have no edges: `bound.names` are
    its values.
    """

    by: str
    edges: tuple[float, ...]
    bound: GroupedBound

    @property
    def column(self) -> str | None:
        """The column that names the groups; None where p_hat divides."""
        return None if self.by.startswith("p_hat:") else self.by

    def numbers(self, p_hat: ArrayLike, labels: Sequence[str | None]) -> IntArray:
        """The number of the group of each prompt, shape (n,); -1 for a label that is unknown."""
        if self.column is None:
            return group_of(p_hat, self.edges)
        return numbers_of(labels, self.bound.names)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "by": self.by,
            "edges": list(self.edges),
            "groups": [
                {
                    "name": name,
                    "statement": bound.statement,
                    "bound": json.loads(bound.to_json()),
                }
                for name, bound in zip(self.bound.names, self.bound.bounds, strict=True)
            ],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Groups:
        """Inverse of `to_dict`."""
        rows = document["groups"]
        return cls(
            by=from_plain(str, document["by"]),
            edges=from_plain(tuple[float, ...], document["edges"]),
            bound=GroupedBound(
                names=tuple(from_plain(str, row["name"]) for row in rows),
                bounds=tuple(
                    LowerPredictiveBound.from_json(json.dumps(row["bound"])) for row in rows
                ),
            ),
        )


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The bound of a run at one miscoverage: one for all prompts, or one for each group."""

    bound: LowerPredictiveBound
    groups: Groups | None

    def predict(self, p_hat: NDArray[np.float64], numbers: IntArray) -> IntArray:
        """L of prompts with `p_hat` in groups number `numbers`, shapes (n,)."""
        return (
            self.bound.predict(p_hat)
            if self.groups is None
            else self.groups.bound.predict(p_hat, numbers)
        )

    def caps(self, numbers: IntArray) -> IntArray:
        """The longest bound possible for each prompt, shape (n,)."""
        if self.groups is None:
            return np.full(numbers.shape, self.bound.cap, dtype=np.int64)
        return self.groups.bound.caps(numbers)


@dataclass(frozen=True, kw_only=True)
class LowerBound:
    """A lower bound as it is written down; `bound` and `groups` as in `BoundResult`."""

    bound: LowerPredictiveBound
    groups: Groups | None = None

    @classmethod
    def of(cls, calibrated: Calibrated) -> LowerBound:
        """The same as a value."""
        return cls(bound=calibrated.bound, groups=calibrated.groups)

    @property
    def calibrated(self) -> Calibrated:
        """The same, to predict with."""
        return Calibrated(self.bound, self.groups)

    @property
    def statement(self) -> str:
        """The guarantee in words."""
        return self.bound.statement if self.groups is None else self.groups.bound.statement

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "statement": self.statement,
            "bound": json.loads(self.bound.to_json()),
            "groups": self.groups.to_dict() if self.groups else None,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LowerBound:
        """Inverse of `to_dict`."""
        groups = document["groups"]
        return cls(
            bound=LowerPredictiveBound.from_json(json.dumps(document["bound"])),
            groups=None if groups is None else Groups.from_dict(groups),
        )


class Calibration:
    """A calibration with its records, whether by group or not."""

    def __init__(
        self,
        parts: PromptSplit,
        settings: BoundSettings,
        observe: Observe,
        *,
        p_hat: NDArray[np.float64],
        reference: NDArray[np.float64],
        **options: Any,
    ) -> None:
        """`options` are those of `calibrate`; what `settings` has a say in comes from there."""
        self._by, self._parts = settings.coverage_by, parts
        self._whole: tuple[LowerPredictiveBound, CalibrationRecord] | None = None
        self._groups: GroupCalibration | None = None
        self._edges: NDArray[np.float64] = np.zeros(0)
        self._names: tuple[str, ...] = ()
        options = {**options, "reference_p_hat": reference if len(reference) else None}
        if settings.coverage_by is None:
            weight = settings.largest_weight(len(p_hat))
            self._whole = calibrate_with_record(p_hat, observe, max_weight=weight, **options)
            self._records = [(np.arange(len(p_hat)), self._whole[1])]
            return
        self._divide(settings, reference)
        numbers = self.numbers(parts.calibration, p_hat)
        sizes = np.bincount(numbers, minlength=len(self._names))
        if not sizes.all():
            raise UnreachableError(
                f"no calibration prompt has a {self._names[int(sizes.argmin())]}, as training "
                f"prompts have: ask for fewer groups than --coverage-by {self._by}"
            )
        self._groups = calibrate_by_group(
            p_hat,
            numbers,
            observe,
            max_weight=[settings.largest_weight(int(size)) for size in sizes],
            names=self._names,
            reference_groups=self.numbers(parts.train, reference) if len(reference) else None,
            **options,
        )
        self._records = list(zip(self._groups.members, self._groups.records, strict=True))

    def _divide(self, settings: BoundSettings, reference: NDArray[np.float64]) -> None:
        wanted = settings.groups_of_p_hat
        if wanted is None:
            here = {self._parts.labels[prompt.id] for prompt in self._parts.calibration}
            self._names = tuple(sorted(here))
            return
        least = required(
            guarantee=settings.guarantee,
            alpha=min(settings.alphas),
            delta=settings.delta,
            budget=settings.budget,
        ).minimum_prompts
        # As many more as the number in a group may fall short of what is expected.
        least += math.ceil(2 * math.sqrt(least))
        prompts = len(self._parts.calibration)
        self._edges = p_hat_edges(reference, wanted, prompts=prompts, least=least)
        self._names = names_of(self._edges)

    def numbers(self, prompts: Sequence[Prompt], p_hat: NDArray[np.float64]) -> IntArray:
        """The number of the group of each of `prompts`, shape (n,); 0 without groups."""
        if self._by is None:
            return np.zeros(len(prompts), dtype=np.int64)
        if self._parts.labels:
            return numbers_of([self._parts.labels[one.id] for one in prompts], self._names)
        return group_of(p_hat, self._edges)

    @property
    def longest(self) -> Calibrated:
        """The bound at the miscoverage that the draws were planned for."""
        if self._whole is not None:
            return Calibrated(self._whole[0], None)
        assert self._groups is not None
        return self._by_group(self._groups.bound)

    def at(self, alpha: float) -> Calibrated:
        """The bound at a smaller miscoverage, from the same draws."""
        if self._whole is not None:
            return Calibrated(bound_at(*self._whole, alpha), None)
        assert self._groups is not None
        return self._by_group(self._groups.at(alpha))

    @property
    def records(self) -> Sequence[tuple[IntArray, CalibrationRecord]]:
        """The members of each group among the calibration prompts, and its record."""
        return self._records

    def _by_group(self, bound: GroupedBound) -> Calibrated:
        assert self._by is not None
        return Calibrated(
            bound.smallest, Groups(by=self._by, edges=tuple(self._edges.tolist()), bound=bound)
        )


def names_of(edges: Sequence[float] | NDArray[np.float64]) -> tuple[str, ...]:
    """Names of groups by p_hat, with as many digits as tell their ends apart.

    >>> names_of([0.001, 0.02])
    ('p_hat up to 1e-03', 'p_hat 1e-03 .. 2e-02', 'p_hat above 2e-02')
    """
    if len(edges) == 0:
        return ("all p_hat",)
    ends: list[str] = []
    for digits in range(6):
        ends = [f"{edge:.{digits}e}" for edge in edges]
        if len(set(ends)) == len(ends):
            break
    inner = [f"p_hat {low} .. {high}" for low, high in pairwise(ends)]
    return (f"p_hat up to {ends[0]}", *inner, f"p_hat above {ends[-1]}")
