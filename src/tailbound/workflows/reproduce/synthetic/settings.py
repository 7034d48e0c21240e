"""What the user can choose about the synthetic study, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from tailbound.core.options import option
from tailbound.errors import UsageError

DESIGNS = ("naive", "basic", "trimmed", "optimized", "balanced")
BUDGETS = (10, 1120, 3340, 10_000)
QUICK_BUDGETS, QUICK_REPEATS, QUICK_PROMPTS = (10, 1120), 2, 20_000
SHARES = (0.45, 0.45)
"""Training and calibration; the others are for the test."""
LEAST_OF_ALPHA = 50
"""So many prompts over alpha: 22 calibration prompts where 20 are the fewest that could do."""
GROUP = "Study"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A sampling design under a guarantee."""

    design: str
    guarantee: str

    @property
    def name(self) -> str:
        """As tables show it.

        >>> Method(design="balanced", guarantee="marginal").name
        'balanced, marginal'
        """
        return f"{self.design}, {self.guarantee}" if self.design == "balanced" else self.design


METHODS = (
    *(Method(design=design, guarantee="plug-in") for design in DESIGNS),
    Method(design="balanced", guarantee="marginal"),
)
"""Published designs have the published rule, `plug-in`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One calibration of a study; repeats are counted from 1."""

    method: Method
    budget: int
    repeat: int

    @property
    def name(self) -> str:
        """Of its file in `cells/`."""
        return f"{self.method.design}-{self.method.guarantee}-{self.budget}-{self.repeat}"

    def seed(self, seed: int) -> int:
        """Its own random seed for the selection, a function of that of the study and its name."""
        return crc32(f"{seed} {self.name}".encode())


@dataclass(frozen=True, kw_only=True)
class SyntheticStudy:
    """`synthetic`: coverage and length of the published designs and of `balanced`."""

    budget: tuple[int, ...] = option(
        "Average draws per calibration prompt, several numbers.",
        default=BUDGETS,
        short="-n",
        group=GROUP,
    )
    repeats: int = option(
        "Independent repeats: features, split, predictor, draws and selection.",
        default=20,
        group=GROUP,
    )
    prompts_count: int = option("Prompts of the population.", default=100_000, group=GROUP)
    alpha: float = option(
        "Miscoverage: share of prompts whose bound may be too long.", default=0.1, group=GROUP
    )
    design: tuple[str, ...] = option(
        "Design to compare, repeatable: naive, basic, trimmed, optimized, balanced (default: all).",
        default=(),
        group=GROUP,
    )
    quick: bool = option(
        "Run a smaller study, in less than a minute: 20,000 prompts, budgets 10 and 1120, 2 "
        "repeats.",
        default=False,
        group=GROUP,
    )
    seed: int = option("Random seed.", default=0, group="Run")

    def __post_init__(self) -> None:
        if not self.budget or len(set(self.budget)) < len(self.budget) or min(self.budget) < 2:
            raise UsageError(
                f"--budget must be distinct numbers of at least 2, not {list(self.budget)}"
            )
        if self.repeats < 1:
            raise UsageError(f"--repeats must be at least 1, not {self.repeats}")
        if not 0 < self.alpha < 1:
            raise UsageError(f"--alpha must lie strictly between 0 and 1, not {self.alpha:g}")
        least = math.ceil(LEAST_OF_ALPHA / self.alpha)
        if self.prompts_count < least:
            raise UsageError(
                f"--prompts-count must be at least {least:,} at alpha = {self.alpha:g}, not "
                f"{self.prompts_count:,}: 45 % of them calibrate"
            )
        for one in self.design:
            if one not in DESIGNS or self.design.count(one) > 1:
                raise UsageError(
                    f"--design takes {', '.join(DESIGNS)}, each at most once, not {one!r}"
                )
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, not {self.seed}")

    @property
    def budgets(self) -> tuple[int, ...]:
        """Ascending; `quick` lowers what is not set otherwise, here and below."""
        return (
            QUICK_BUDGETS if self.quick and self.budget == BUDGETS else tuple(sorted(self.budget))
        )

    @property
    def rounds(self) -> int:
        """How many repeats there are."""
        return QUICK_REPEATS if self.quick and self.repeats == 20 else self.repeats

    @property
    def size(self) -> int:
        """How many prompts the population has."""
        lowered = self.quick and self.prompts_count == 100_000
        return QUICK_PROMPTS if lowered else self.prompts_count

    @property
    def methods(self) -> tuple[Method, ...]:
        """What is compared, in the order of the tables."""
        return tuple(one for one in METHODS if not self.design or one.design in self.design)

    def cells(self, repeat: int) -> Iterator[Cell]:
        """The calibrations of one repeat."""
        for method in self.methods:
            for budget in self.budgets:
                yield Cell(method=method, budget=budget, repeat=repeat)
