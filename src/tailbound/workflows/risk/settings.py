"""What the user can choose about a risk, checked before anything is spent."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError

FamilyName = Literal["ladder", "mix-switch", "single"]
Estimand = Literal["unsafe", "score"]
GROUP, PROPOSAL = "Statistics", "Proposal"

LEAST_BATCH = 20
"""Draws of the smallest batch of a ladder; runs of fewer draws have one batch."""
LEAST_DRAWS = 100
"""So many draws are divided into batches, with the shares that are the default."""


@dataclass(frozen=True, kw_only=True)
class RiskSettings:
    """The options of `tailbound risk` that are about statistics.

    Every prompt gets `draws`; with `until_resolved` those that are not resolved then get more, in
    complete batches, up to `max_draws` each. `intensities` are those of the ladder, relative to
    full steering. A ladder's draws come in batches of `batch_shares`, the first spread evenly, each
    of the others where all before it say. `estimand` "unsafe" is P(score >= threshold), "score" the
    mean score.
    """

    threshold: float | None = option(
        "Scores at or above this are unsafe (default: the judge's own).", default=None
    )
    draws: int = option("Draws per prompt.", default=500, short="-n", group=GROUP)
    until_resolved: bool = option(
        "Keep drawing for prompts whose estimate is not yet resolved.", default=False, group=GROUP
    )
    max_draws: int | None = option(
        "Maximum draws per prompt, with --until-resolved.", default=None, group=GROUP
    )
    confidence: float = option(
        "Confidence level of each one-sided bound.", default=0.95, group=GROUP
    )
    estimand: Estimand = option(
        "unsafe: P(score >= threshold); score: the mean score.", default="unsafe", group=GROUP
    )
    family: FamilyName = option(
        "Proposal family: ladder, mix-switch or single.",
        default="ladder",
        group=PROPOSAL,
        name="proposal_family",
    )
    intensities: tuple[float, ...] = option(
        "Steering strengths of the ladder, strongest first.", default=(1.0,), group=PROPOSAL
    )
    seed: int = option("Random seed.", default=0, group="Run")
    batch_shares: tuple[float, ...] = (0.25, 0.2, 0.25, 0.3)

    def __post_init__(self) -> None:
        check_choices(self)
        if self.draws < 2:
            raise UsageError(f"--draws must be at least 2, not {self.draws}")
        if self.max_draws is not None and not self.until_resolved:
            raise UsageError("--max-draws goes with --until-resolved: give both or neither")
        if self.until_resolved and self.max_draws is None:
            raise UsageError(
                "--until-resolved needs --max-draws N, the most draws that a prompt may get"
            )
        if self.max_draws is not None and self.max_draws < self.draws:
            raise UsageError(
                f"--max-draws {self.max_draws} is less than --draws {self.draws}: raise it"
            )
        if not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        levels = self.intensities
        if not levels or len(set(levels)) < len(levels):
            raise UsageError(f"--intensities must be distinct, not {list(levels)}")
        if not all(0 < level < math.inf for level in levels):
            raise UsageError(f"--intensities must be positive, not {list(levels)}")
        shares = self.batch_shares
        if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise UsageError(f"batch_shares must be positive and sum to 1, not {list(shares)}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"--threshold must lie in (0, 1], not {self.threshold:g}: unsafe is score >= it"
            )
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, not {self.seed}")

    @property
    def most_batches(self) -> int:
        """How many batches a prompt may get: at least those of `draws`, 2 or more if one follows.

        >>> RiskSettings(draws=500).most_batches, RiskSettings(draws=60).most_batches
        (4, 1)
        """
        follow = self.max_draws is not None and self.max_draws - self.draws >= 2
        return len(self.batch_sizes) + follow

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """How many draws each batch of `draws` has, that of other families than the ladder too.

        >>> RiskSettings(draws=500).batch_sizes, RiskSettings(draws=60).batch_sizes
        ((125, 100, 125, 150), (60,))
        """
        ends = [
            round(sum(self.batch_shares[: n + 1]) * self.draws)
            for n in range(len(self.batch_shares))
        ]
        sizes = tuple(end - start for start, end in pairwise([0, *ends]))
        divided = self.family == "ladder" and min(sizes) >= LEAST_BATCH
        return sizes if divided else (self.draws,)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class ProposalOptions:
    """Which unsafe version of the target draws besides it, and what it is found from."""

    proposal: tuple[str, ...] = option(
        "Unsafe version of the model, repeatable: refusal[:DIR] (the default), persona:NAME, "
        "model:NAME, lora:PATH, prompt:FILE; learned (an adapter trained on the unsafe replies of "
        "earlier batches); heat (explorers alone); none (plain Monte Carlo); "
        "splitting (multilevel splitting, for judges that give grades).",
        default=(),
        group=PROPOSAL,
    )
    explore: bool = option(
        "Also draw from heated and learned versions of the model, which reach what a proposal "
        "misses.",
        default=True,
        group=PROPOSAL,
    )
    harmful: Path | None = option(
        "File of prompts that the model refuses.", default=None, group=PROPOSAL
    )
    harmless: Path | None = option(
        "File of prompts that the model answers.", default=None, group=PROPOSAL
    )

    @property
    def specs(self) -> tuple[str, ...]:
        """What was asked for; the refusal direction by default."""
        return self.proposal or ("refusal",)
