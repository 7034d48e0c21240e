"""What the user can choose about a study, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args
from zlib import crc32

from tailbound.core.options import Only, option
from tailbound.errors import UsageError
from tailbound.workflows.risk.settings import GROUP, RiskSettings

StudyName = Literal["mc-vs-is", "strongreject", "persona"]
Method = Literal["none", "mix-switch", "ladder"]
STUDIES: tuple[StudyName, ...] = get_args(StudyName)
METHODS: tuple[Method, ...] = get_args(Method)
METHOD_NAMES: dict[str, str] = {
    "none": "plain Monte Carlo",
    "mix-switch": "mix-switch (published)",
    "ladder": "ladder",
}
BRUTE = "brute-force"
"""What the plain draws are called that give the truth."""
EXAMPLE_PROMPTS = 6
"""Prompts of a target that brings its own, where `--limit` does not say otherwise."""

RISK_OPTIONS = Only(RiskSettings, ("threshold", "confidence", "intensities", "seed"))
"""The options of `tailbound risk` that hold for every run of a study."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study: a method, its draws per prompt, and which repeat it is (from 1)."""

    method: str
    draws: int
    repeat: int = 1

    @property
    def name(self) -> str:
        """Of its folder in `runs/`."""
        return f"{self.method}-{self.draws}" + ("" if self.method == BRUTE else f"-{self.repeat}")

    def seed(self, seed: int) -> int:
        """Its own random seed, a function of that of the study and its name alone.

        Runs are thereby independent, and a study that is extended keeps the ones it has.

        >>> Cell(method="none", draws=50).seed(0) == Cell(method="ladder", draws=50).seed(0)
        False
        """
        return crc32(f"{seed} {self.method} {self.draws} {self.repeat}".encode())


@dataclass(frozen=True, kw_only=True)
class Design:
    """Which runs a study has."""

    methods: tuple[Method, ...]
    draws: tuple[int, ...]
    repeats: int
    brute_force: int | None

    def cells(self) -> Iterator[Cell]:
        """Every run: the truth, then repeat by repeat, fewest draws first."""
        if self.brute_force is not None:
            yield Cell(method=BRUTE, draws=self.brute_force)
        for repeat in range(1, self.repeats + 1):
            for draws in sorted(self.draws):
                for method in self.methods:
                    yield Cell(method=method, draws=draws, repeat=repeat)


@dataclass(frozen=True, kw_only=True)
class ErrorStudy:
    """`mc-vs-is`: error against draws and against tokens, by method."""

    draws: tuple[int, ...] = option(
        "Draws per prompt, several numbers.", default=(50, 100, 200, 500), short="-n", group=GROUP
    )
    repeats: int = option("Independent runs of each method and number.", default=3, group=GROUP)
    method: tuple[str, ...] = option(
        "Method to compare, repeatable: none (plain Monte Carlo), mix-switch (the published "
        "family with its cross-entropy choice), ladder (default: all).",
        default=(),
        group=GROUP,
    )
    brute_force: int | None = option(
        "Plain draws per prompt for the truth (default: exact risks, of targets that have them).",
        default=None,
        group=GROUP,
    )
    quick: bool = option(
        "Run a smaller study, in less than a minute on the demo model: 3 prompts, 50 and 150 "
        "draws, 1 run of each.",
        default=False,
        group=GROUP,
    )

    def __post_init__(self) -> None:
        if not self.draws or len(set(self.draws)) < len(self.draws) or min(self.draws) < 20:
            raise UsageError(
                f"--draws must be distinct numbers of at least 20, not {list(self.draws)}"
            )
        _at_least("--repeats", self.repeats, 1)
        if self.brute_force is not None:
            _at_least("--brute-force", self.brute_force, 2)
        for one in self.method:
            if one not in METHODS or self.method.count(one) > 1:
                raise UsageError(
                    f"--method takes {', '.join(METHODS)}, each at most once, not {one!r}"
                )

    @property
    def design(self) -> Design:
        """The runs that it has; `quick` lowers what is not set otherwise."""
        usual = ErrorStudy()
        smaller = self.quick and self.draws == usual.draws
        once = self.quick and self.repeats == usual.repeats
        return Design(
            methods=tuple(one for one in METHODS if not self.method or one in self.method),
            draws=(50, 150) if smaller else self.draws,
            repeats=1 if once else self.repeats,
            brute_force=self.brute_force,
        )

    @property
    def example_prompts(self) -> int:
        """How many prompts of a target's own it takes by default."""
        return 3 if self.quick else EXAMPLE_PROMPTS


@dataclass(frozen=True, kw_only=True)
class WeightedStudy:
    """`strongreject` and `persona`: few weighted draws beside many plain ones."""

    plain: int = option("Plain draws per prompt.", default=10_000, group=GROUP)
    weighted: int = option("Weighted draws per prompt.", default=500, group=GROUP)
    repeats: int = option("Independent runs of the weighted draws.", default=1, group=GROUP)

    def __post_init__(self) -> None:
        _at_least("--plain", self.plain, 2)
        _at_least("--weighted", self.weighted, 20)
        _at_least("--repeats", self.repeats, 1)

    @property
    def design(self) -> Design:
        """The runs that it has."""
        return Design(
            methods=("ladder",),
            draws=(self.weighted,),
            repeats=self.repeats,
            brute_force=self.plain,
        )

    @property
    def example_prompts(self) -> int:
        """How many prompts of a target's own it takes by default."""
        return EXAMPLE_PROMPTS


def _at_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{flag} must be at least {least}, not {value}")
