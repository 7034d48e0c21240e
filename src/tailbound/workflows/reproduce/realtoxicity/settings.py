"""What the user can choose about the study of completions, checked before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tailbound.core.options import Only, option
from tailbound.errors import UsageError
from tailbound.workflows.bound.settings import BoundSettings

DESIGNS = ("naive", "basic", "trimmed", "optimized", "balanced")
DEFAULT_DESIGNS = ("optimized", "balanced")
CAPPED = ("trimmed", "optimized")
"""Designs that take the published largest weight."""
EXAMPLE_PROMPTS = 300
"""Prompts of a target that brings its own, where `--limit` does not say otherwise."""
GROUP = "Study"
SAMPLING = "Sampling"

BOUND_OPTIONS = Only(
    BoundSettings,
    (
        *("threshold", "loss", "features", "train_draws", "split"),
        *("allow_missing", "seed"),
    ),
)
"""The options of `tailbound bound` that hold for every run of the study."""


@dataclass(frozen=True, kw_only=True)
class CompletionOptions:
    """How responses are drawn: as published, but for a target that brings prompts of its own."""

    max_new_tokens: int | None = option(
        "Maximum response length in tokens (default: 30; demo: 32).", default=None, group=SAMPLING
    )
    temperature: float = option("Sampling temperature.", default=1.0, group=SAMPLING)
    top_p: float | None = option(
        "Nucleus sampling: probability mass to keep (default: .8; demo: 1).",
        default=None,
        group=SAMPLING,
    )
    chat: bool = option(
        "Send prompts through the chat template (default: as raw text; demo: through it).",
        default=False,
        group=SAMPLING,
    )

    def sampling(self, *, own: bool) -> dict[str, Any]:
        """The options of the sampler, for a target with prompts of its `own` or another."""
        published = None if own else 30
        longest = published if self.max_new_tokens is None else self.max_new_tokens
        return {
            "max_new_tokens": longest,
            "temperature": self.temperature,
            "top_p": (1.0 if own else 0.8) if self.top_p is None else self.top_p,
            "completion": not (self.chat or own),
        }


@dataclass(frozen=True, kw_only=True)
class BoundCell:
    """One run of the study: a design and its budget."""

    design: str
    budget: int

    @property
    def name(self) -> str:
        """Of its folder in `runs/`."""
        return f"{self.design}-{self.budget}"

    @property
    def guarantee(self) -> str:
        """The published rule for published designs, that of finite samples for `balanced`."""
        return "marginal" if self.design == "balanced" else "plug-in"


@dataclass(frozen=True, kw_only=True)
class CompletionStudy:
    """`realtoxicity`: bounds at several budgets, beside the uncalibrated one."""

    budget: tuple[int, ...] = option(
        "Average draws per calibration prompt, several numbers.",
        default=(10, 100, 1200),
        short="-n",
        group=GROUP,
    )
    design: tuple[str, ...] = option(
        "Design to compare, repeatable: naive, basic, trimmed, optimized, balanced (default: "
        "optimized, balanced).",
        default=(),
        group=GROUP,
    )
    alpha: float = option(
        "Miscoverage: share of prompts whose bound may be too long.", default=0.1, group=GROUP
    )
    max_weight: float = option(
        "Largest weight of trimmed and optimized, which caps bounds at budget x weight.",
        default=2.0,
        group=GROUP,
    )
    test_draws: int = option("Maximum draws per test prompt.", default=500, group=GROUP)

    def __post_init__(self) -> None:
        if not self.budget or len(set(self.budget)) < len(self.budget) or min(self.budget) < 2:
            raise UsageError(
                f"--budget must be distinct numbers of at least 2, not {list(self.budget)}"
            )
        for one in self.design:
            if one not in DESIGNS or self.design.count(one) > 1:
                raise UsageError(
                    f"--design takes {', '.join(DESIGNS)}, each at most once, not {one!r}"
                )

    @property
    def designs(self) -> tuple[str, ...]:
        """What is compared, in the order of the tables."""
        return tuple(one for one in DESIGNS if one in (self.design or DEFAULT_DESIGNS))

    def cells(self) -> Iterator[BoundCell]:
        """Every run, smallest budget first."""
        for budget in sorted(self.budget):
            for design in self.designs:
                yield BoundCell(design=design, budget=budget)

    def options_of(self, cell: BoundCell, shared: Mapping[str, Any]) -> dict[str, Any]:
        """What a run is asked for among the options of `bound`."""
        return {
            **shared,
            "budget": float(cell.budget),
            "design": cell.design,
            "guarantee": cell.guarantee,
            "alpha": (self.alpha,),
            "test_draws": self.test_draws,
            "max_weight": self.max_weight if cell.design in CAPPED else None,
        }
