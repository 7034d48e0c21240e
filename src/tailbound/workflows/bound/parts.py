"""Which prompts do what: the split of an audit, and the predictions that came with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import UnreachableError, UsageError
from tailbound.prompts import PromptSet, least_units, one_per_group, split
from tailbound.survival import required
from tailbound.survival.rules import least_prompts
from tailbound.workflows.bound.settings import BoundSettings

MINIMUM_TRAIN, MINIMUM_CALIBRATION = 10, 20


@dataclass(frozen=True, eq=False)
class PromptSplit:
    """The prompts of each part. `supplied` holds the user's own predictions, by prompt id.

    `labels` holds the group in which each prompt is calibrated, by its id, where a column names it.

    Rewordings of one query are not independent: calibration and test hold one of each group,
    training holds all of them.
    """

    train: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...]
    test: tuple[Prompt, ...]
    supplied: dict[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def all(self) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...], tuple[Prompt, ...]]:
        """The three parts, in order."""
        return self.train, self.calibration, self.test

    def by_name(self) -> dict[str, tuple[Prompt, ...]]:
        """The prompts of each part, by its name."""
        return {"train": self.train, "calibration": self.calibration, "test": self.test}

    def supplied_p_hat(self, prompts: tuple[Prompt, ...]) -> NDArray[np.float64]:
        """The user's predictions for `prompts`, shape (len(prompts),)."""
        return np.array([self.supplied[prompt.id] for prompt in prompts])


def divide(prompts: PromptSet, settings: BoundSettings) -> PromptSplit:
    """Split the prompts, and check that there are enough of each part.

    Raises `UsageError` where a part is too small to mean anything, and `UnreachableError` where no
    bound but L = 1 could come out under the guarantee that is asked for.
    """
    train, calibration, test = split(prompts, shares=settings.shares, seed=settings.seed)
    parts = PromptSplit(
        train,
        one_per_group(calibration, seed=settings.seed),
        one_per_group(test, seed=settings.seed),
        prompts.p_hat_by_id(),
        _labels(prompts, settings.group_column),
    )
    if settings.recalibrate == "on" and not parts.supplied:
        raise UsageError(
            f"--recalibrate is for p_hat of your own, and {prompts.source} has no column p_hat: "
            "leave it out (a predictor that is trained here is always recalibrated)"
        )
    least_train = 0 if parts.supplied and settings.recalibrate != "on" else MINIMUM_TRAIN
    least = (least_train, MINIMUM_CALIBRATION, 1 if settings.shares[2] > 0 else 0)
    for name, part, need in zip(("training", "calibration", "test"), parts.all, least, strict=True):
        if len(part) < need:
            raise UsageError(
                f"{len(part)} of the {len(prompts)} prompts of {prompts.source} fell into the "
                f"{name} part, which needs at least {need}: {_in_all(least, settings)}give more "
                "prompts, or change --split"
            )
    missing = [p.id for p in prompts if not np.isfinite(parts.supplied.get(p.id, np.nan))]
    if parts.supplied and missing:
        raise UsageError(
            f"{len(missing)} prompts of {prompts.source} have no p_hat (the first: "
            f"{missing[0]!r}): give one for each prompt, or remove the column"
        )
    alpha = min(settings.alphas)
    needed = required(
        guarantee=settings.guarantee, alpha=alpha, delta=settings.delta, budget=settings.budget
    )
    if len(parts.calibration) < needed.minimum_prompts:
        less = settings.guarantee == "pac" and len(parts.calibration) >= least_prompts(alpha)
        raise UnreachableError(
            f"the guarantee {settings.guarantee!r} at alpha = {alpha:g} needs at least "
            f"{needed.minimum_prompts} calibration prompts to state any bound, and there are "
            f"{len(parts.calibration)}: "
            f"{_in_all((least_train, needed.minimum_prompts, least[2]), settings)}give more "
            f"prompts, or {'use --guarantee marginal' if less else 'raise --alpha'}"
        )
    if parts.labels:
        _check_groups(parts, settings, needed.minimum_prompts)
    return parts


def _labels(prompts: PromptSet, column: str | None) -> dict[str, str]:
    """The group of each prompt by its id; raises `UsageError` where one has none."""
    if column is None:
        return {}
    labels = prompts.labels(column)
    without = [prompt.id for prompt, label in zip(prompts, labels, strict=True) if label is None]
    if without:
        raise UsageError(
            f"{len(without)} prompts of {prompts.source} have nothing in the column {column!r} "
            f"(the first: {without[0]!r}): every prompt needs a group"
        )
    pairs = zip(prompts, labels, strict=True)
    return {prompt.id: label for prompt, label in pairs if label is not None}


def _check_groups(parts: PromptSplit, settings: BoundSettings, least: int) -> None:
    """Raise `UnreachableError` where a group has too few calibration prompts for any bound."""
    groups = Counter(parts.labels[prompt.id] for prompt in parts.calibration)
    few = [name for name in sorted(set(parts.labels.values())) if groups[name] < least]
    if few:
        raise UnreachableError(
            f"{len(few)} groups of {settings.coverage_by!r} have too few calibration prompts for "
            f"{settings.guarantee!r} at alpha = {min(settings.alphas):g}: the first, {few[0]!r}, "
            f"has {groups[few[0]]} and needs at least {least} (about "
            f"{math.ceil(least / settings.shares[1])} prompts in all): give more, join groups, or "
            "leave out --coverage-by"
        )


def _in_all(least: tuple[int, int, int], settings: BoundSettings) -> str:
    """How many prompts the split of `settings` takes for parts of so many, in words."""
    units = least_units(least, settings.shares)
    if units is None:
        return ""
    shares = ",".join(f"{share:g}" for share in settings.shares)
    return f"a split of {shares} needs at least {units} prompts in all (one of each group), so "
