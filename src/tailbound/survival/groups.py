r"""Coverage by group: each group of prompts has a threshold and a guarantee of its own.

Coverage is an average over prompts: .9 over all of them can hide .3 over the riskiest tenth. Where
prompts are divided in advance, by a label or by p_hat, and each group is calibrated by its own
prompts alone (Mondrian conformal prediction: Vovk, Gammerman and Shafer, 2005, section 4.5), the
guarantee holds within every group, since the prompts of one are a sample from its own population.
It costs precision: the coverage of a group with n calibration prompts has a standard deviation of
about sqrt(alpha (1 - alpha) / n).

Groups by p_hat end at quantiles of *training* predictions, and which of them are merged depends on
the number of calibration prompts alone: groups do not depend on what they are calibrated with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.survival.bound import LowerPredictiveBound, check_predictions, check_probabilities
from tailbound.survival.calibration import bound_at, calibrate_with_record
from tailbound.survival.designs import PopulationForecast, as_planning, default_max_level
from tailbound.survival.geometric import MAX_TIME, IntArray
from tailbound.survival.predicted import PredictedTimes
from tailbound.survival.record import CalibrationRecord, Observe, among

#: A group is given no more than this multiple of what all its horizons are expected to cost.
_AMPLE = 2.0


@dataclass(frozen=True, kw_only=True)
class GroupedBound:
    """One lower predictive bound for each group; `names` and `bounds` have the same order.

    >>> shared = dict(
    ...     limited_by="alpha", alpha=0.1, guarantee="plug-in", delta=0.1, design="balanced",
    ...     planned=5000.0, spent=4000, n_calibration=100, n_selected=90, weight_bound=4.0,
    ...     miscoverage=0.1, prompts_needed=10,
    ... )
    >>> bound = GroupedBound(
    ...     names=("a", "b"),
    ...     bounds=(
    ...         LowerPredictiveBound(level=0.2, cap=500, **shared),
    ...         LowerPredictiveBound(level=0.1, cap=900, **shared),
    ...     ),
    ... )
    >>> bound.predict([0.01, 0.01, 0.01], [0, 1, -1]).tolist()
    [23, 11, 11]
    """

    names: tuple[str, ...]
    bounds: tuple[LowerPredictiveBound, ...]

    def predict(self, p_hat: ArrayLike | PredictedTimes, groups: ArrayLike) -> IntArray:
        """L for prompts with predicted risks `p_hat` in groups number `groups`, shapes (n,).

        A prompt of no known group (-1) has the shortest of the bounds that it would have in any of
        them; no guarantee covers it.
        """
        predicted = check_predictions(p_hat, "p_hat")
        where = np.asarray(groups, dtype=np.int64)
        everywhere = np.stack([bound.predict(predicted) for bound in self.bounds])
        known = everywhere[np.maximum(where, 0), np.arange(len(predicted))]
        return np.asarray(np.where(where >= 0, known, everywhere.min(axis=0)), dtype=np.int64)

    def caps(self, groups: ArrayLike) -> IntArray:
        """The longest bound possible for prompts of groups number `groups`; shapes (n,)."""
        caps = np.array([bound.cap for bound in self.bounds], dtype=np.int64)
        where = np.asarray(groups, dtype=np.int64)
        return np.asarray(np.where(where >= 0, caps[where], caps.min()), dtype=np.int64)

    @property
    def smallest(self) -> LowerPredictiveBound:
        """One bound that is no longer than that of any group, whatever the prompt.

        Its level and cap are the least of all groups; draws and prompts are those of all together,
        the miscoverage is the mean of the groups' own over the calibration prompts.
        """
        parts = self.bounds
        low = min(parts, key=lambda bound: bound.level)
        n = sum(bound.n_calibration for bound in parts)
        return LowerPredictiveBound(
            level=low.level,
            cap=min(bound.cap for bound in parts),
            limited_by=low.limited_by,
            alpha=low.alpha,
            guarantee=low.guarantee,
            delta=low.delta,
            design=low.design,
            planned=float(sum(bound.planned for bound in parts)),
            spent=sum(bound.spent for bound in parts),
            n_calibration=n,
            n_selected=sum(bound.n_selected for bound in parts),
            weight_bound=max(bound.weight_bound for bound in parts),
            miscoverage=sum(bound.miscoverage * bound.n_calibration for bound in parts) / n,
            prompts_needed=low.prompts_needed,
            replicates=min(bound.replicates for bound in parts),
        )

    @property
    def statement(self) -> str:
        """The guarantee in words: that of most groups, and the groups to which another applies."""
        said: dict[str, list[str]] = {}
        for name, bound in zip(self.names, self.bounds, strict=True):
            said.setdefault(bound.statement, []).append(name)
        first, *others = sorted(said, key=lambda text: -len(said[text]))
        rest = "".join(f" In {'; '.join(said[text])}: {text}" for text in others)
        return f"Within each of {len(self.names)} groups: {first}{rest}"


def p_hat_edges(
    reference_p_hat: ArrayLike, groups: int, *, prompts: int, least: float
) -> NDArray[np.float64]:
    """Where groups by p_hat end: inner edges, ascending, at most `groups` - 1 of them.

    They are quantiles of `reference_p_hat`, predictions for prompts outside the calibration set. A
    group in which fewer than `least` of `prompts` calibration prompts are expected is merged with
    the smaller of its neighbours. Raises `UsageError` for fewer than two groups and without
    predictions.

    >>> p_hat_edges(np.arange(1, 101) / 1000, 4, prompts=200, least=10).round(4).tolist()
    [0.0258, 0.0505, 0.0752]
    >>> p_hat_edges([0.001] * 90 + [0.1] * 10, 4, prompts=200, least=10).tolist()
    [0.001]
    """
    reference = check_probabilities(reference_p_hat, "reference_p_hat")
    if groups < 2:
        raise UsageError(f"there must be at least 2 groups of p_hat, not {groups}")
    if reference.size == 0:
        raise UsageError(
            "groups of p_hat end at quantiles of the predictions for training prompts, and there "
            "are none: give training prompts a share"
        )
    edges = np.unique(np.quantile(reference, np.arange(1, groups) / groups))
    edges = edges[edges < reference.max()]
    while edges.size:
        counts = np.bincount(group_of(reference, edges), minlength=edges.size + 1)
        expected = prompts * counts / reference.size
        small = int(expected.argmin())
        if expected[small] >= least:
            break
        below = expected[small - 1] if small > 0 else math.inf
        above = expected[small + 1] if small < edges.size else math.inf
        edges = np.delete(edges, small - 1 if below <= above else small)
    return np.asarray(edges, dtype=np.float64)


def group_of(p_hat: ArrayLike, edges: ArrayLike) -> IntArray:
    """The number of the group of each p_hat, shape (n,); an edge belongs to the group below it.

    >>> group_of([0.01, 0.02, 0.03], [0.02]).tolist()
    [0, 0, 1]
    """
    return np.asarray(np.searchsorted(edges, np.asarray(p_hat, dtype=np.float64)), dtype=np.int64)


def share_budget(
    budget: float, needs: Sequence[float], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Average draws per prompt for each group; over all prompts they average to `budget` or less.

    Groups of `sizes` prompts have equal budgets, but none is given more than it `needs`: what risky
    groups leave over goes to the safer ones, whose bounds the budget limits.

    >>> share_budget(100, [20, 500, 500], [10, 10, 20]).round(2).tolist()
    [20.0, 126.67, 126.67]
    """
    need, size = np.asarray(needs, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    left, open_ = budget * size.sum(), size > 0
    given = np.full(need.shape, float(budget))
    while open_.any():
        level = left / size[open_].sum()
        sated = open_ & (need <= level)
        if not sated.any():
            given[open_] = level
            break
        given[sated] = need[sated]
        left -= float((need * size)[sated].sum())
        open_ &= ~sated
    return given


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupCalibration:
    """The bounds of all groups, and what they rest on.

    `members` are the numbers of the calibration prompts of each group, ascending; the `indices` of
    its record count within them. A group without prompts has no place here.
    """

    bound: GroupedBound
    members: tuple[IntArray, ...]
    records: tuple[CalibrationRecord, ...]

    def at(self, alpha: float) -> GroupedBound:
        """The bounds at a smaller miscoverage from the same draws; see `bound_at`."""
        pairs = zip(self.bound.bounds, self.records, strict=True)
        return GroupedBound(
            names=self.bound.names,
            bounds=tuple(bound_at(bound, record, alpha) for bound, record in pairs),
        )


def calibrate_by_group(
    p_hat: ArrayLike | PredictedTimes,
    groups: ArrayLike,
    observe: Observe,
    *,
    names: Sequence[str],
    budget: float,
    alpha: float = 0.1,
    guarantee: str = "marginal",
    design: str = "balanced",
    planning_p_hat: Any = None,
    reference_p_hat: ArrayLike | PredictedTimes | None = None,
    reference_groups: ArrayLike | None = None,
    max_weight: float | Sequence[float | None] | None = None,
    rng: Any = None,
    **options: Any,
) -> GroupCalibration:
    """`calibrate` within every group: P(T >= L(X) | group) >= 1 - alpha.

    `groups`, shape (n,), are the numbers (0, 1, ...) of the groups that `names` lists, fixed
    without the calibration draws; `reference_groups` are those of `reference_p_hat`. `budget` is
    the average over all calibration prompts; what a group cannot use goes to the others
    (`share_budget`). `max_weight` is one for all groups or one for each. Everything else is as for
    `calibrate`, for each group by itself: a group with too few prompts for the guarantee has bounds
    of 1.

    Raises `UsageError` as `calibrate` does, and for a named group without calibration prompts.

    >>> generator = np.random.default_rng(0)
    >>> risks = np.repeat([0.001, 0.05], 500)
    >>> times = generator.geometric(risks)
    >>> def observe(indices, horizons):
    ...     return np.where(times[indices] <= horizons, times[indices], 0)
    >>> found = calibrate_by_group(
    ...     np.full(1000, 0.01), np.repeat([0, 1], 500), observe, names=("safe", "risky"),
    ...     budget=100, rng=0,
    ... )
    >>> found.bound.predict([0.01, 0.01], [0, 1]).tolist()
    [96, 3]
    """
    predicted = check_predictions(p_hat, "p_hat")
    where = _numbers(groups, len(predicted), len(names), "groups")
    members = [np.flatnonzero(where == number) for number in range(len(names))]
    for name, who in zip(names, members, strict=True):
        if who.size == 0:
            raise UsageError(f"the group {name!r} has no calibration prompts: leave it out")
    planning = as_planning(planning_p_hat, predicted)
    reference, beside = None, np.zeros(0, dtype=np.int64)
    if reference_p_hat is not None:
        reference = check_predictions(reference_p_hat, "reference_p_hat")
        beside = _numbers(
            () if reference_groups is None else reference_groups,
            len(reference),
            len(names),
            "reference_groups",
        )
    shared = planning_p_hat if callable(planning_p_hat) else None

    def outlook_of(number: int) -> tuple[PredictedTimes, PredictedTimes]:
        """What stands for a group where its budget is planned: (predictions, planning)."""
        its_own = np.flatnonzero(beside == number)
        if guarantee == "plug-in" or reference is None or its_own.size == 0:
            return predicted.take(members[number]), planning.take(members[number])
        others = reference.take(its_own)
        return others, as_planning(shared, others)

    generator = np.random.default_rng(rng)
    needs = [_need(*outlook_of(number), alpha=alpha) for number in range(len(names))]
    budgets = share_budget(budget, needs, [who.size for who in members])
    if design == "naive":  # its spend is its budget, whatever comes out
        budgets = np.full(len(names), budget)
    # Where no group needs what is left of the budget, it is for replicates.
    given = sum(each * who.size for each, who in zip(budgets, members, strict=True))
    spare = max(budget * len(predicted) / given, 1.0)
    if max_weight is None or isinstance(max_weight, int | float):
        max_weight = [max_weight] * len(names)
    found = []
    for number, who in enumerate(members):
        its_own = np.flatnonzero(beside == number)
        found.append(
            calibrate_with_record(
                predicted.take(who),
                among(observe, who, len(predicted)),
                budget=float(budgets[number]),
                alpha=alpha,
                guarantee=guarantee,  # type: ignore[arg-type]
                design=design,
                planning_p_hat=planning.take(who) if shared is None else shared,
                reference_p_hat=None
                if reference is None or its_own.size == 0
                else reference.take(its_own),
                max_weight=max_weight[number],
                spare=float(spare),
                rng=generator,
                **options,
            )
        )
    return GroupCalibration(
        bound=GroupedBound(names=tuple(names), bounds=tuple(bound for bound, _ in found)),
        members=tuple(members),
        records=tuple(record for _, record in found),
    )


def numbers_of(labels: Sequence[str | None], names: Sequence[str]) -> IntArray:
    """The number of each label among `names`, -1 where it is none of them; shape (n,).

    >>> numbers_of(["b", "c", None], ["a", "b"]).tolist()
    [1, -1, -1]
    """
    place: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    found = [-1 if label is None else place.get(label, -1) for label in labels]
    return np.array(found, dtype=np.int64)


def _need(predicted: PredictedTimes, planning: PredictedTimes, *, alpha: float) -> float:
    """Draws per prompt that are ample for a group: twice what all horizons up to alpha cost."""
    level = default_max_level("balanced", alpha)
    outlook = PopulationForecast(predicted, planning, cap=MAX_TIME, max_level=level)
    return max(_AMPLE * outlook.cost(outlook.level_of(alpha)), 1.0)


def _numbers(groups: ArrayLike, size: int, count: int, name: str) -> IntArray:
    where = np.asarray(groups)
    if where.shape != (size,):
        raise UsageError(f"{name} has shape {where.shape}: give one number for each of {size}")
    where = where.astype(np.int64)
    if where.size and not (where.min() >= 0 and where.max() < count):
        raise UsageError(f"{name} must lie in 0 .. {count - 1}: a number for each name")
    return where
