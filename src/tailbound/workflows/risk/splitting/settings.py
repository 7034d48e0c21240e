"""What the user can choose about splitting, checked before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option
from tailbound.errors import UsageError
from tailbound.workflows.risk.settings import PROPOSAL, RiskSettings

READINGS = 32
"""How many beginnings of the longest response are scored by default."""


@dataclass(frozen=True, kw_only=True)
class SplittingOptions:
    """The options of `--proposal splitting`; its first particles are the `draws` per prompt."""

    particles: int = option(
        "Particles in each independent repeat of --proposal splitting.", default=50, group=PROPOSAL
    )
    score_every: int | None = option(
        "Tokens between two scores of a reply on its way, with --proposal splitting "
        "(default: a 32nd of --max-new-tokens).",
        default=None,
        group=PROPOSAL,
    )

    def __post_init__(self) -> None:
        if self.particles < 2:
            raise UsageError(f"--particles must be at least 2, not {self.particles}")
        if self.score_every is not None and self.score_every < 1:
            raise UsageError(f"--score-every must be at least 1, not {self.score_every}")

    def every(self, max_new_tokens: int) -> int:
        """Tokens between two scores of a reply.

        >>> SplittingOptions().every(32), SplittingOptions().every(256)
        (1, 8)
        """
        return self.score_every or -(-max_new_tokens // READINGS)

    def repeats(self, settings: RiskSettings) -> int:
        """How many repeats `draws` first particles make; `UsageError` for fewer than two."""
        found = settings.draws // self.particles
        if found < 2:
            raise UsageError(
                f"--draws {settings.draws} makes fewer than two repeats of {self.particles} "
                "particles, and noise is read off their spread: raise --draws or lower --particles"
            )
        return found
