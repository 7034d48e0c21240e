"""What the user can choose about a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.core.options import option
from tailbound.errors import UsageError

Quantity = Literal["auto", "rate", "risk"]
Match = Literal["text", "id"]


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of `tailbound compare` besides the two runs."""

    quantity: Quantity = option(
        "What to compare: rate (unsafe draws of the target itself, where their number was fixed) "
        "or risk (the estimates of tailbound risk); auto takes what more prompts have in both.",
        default="auto",
    )
    match: Match = option(
        "Prompts are the same if their id and their text are (text), or their id alone (id).",
        default="text",
    )
    fdr: float = option(
        "False discovery rate of the list of changed prompts: this share of it may be wrong on "
        "average.",
        default=0.05,
    )
    sequential: bool = option(
        "Stay valid however often you look: e-values from draws in pairs, and a confidence "
        "sequence, in place of p-values for a number of draws that was fixed in advance.",
        default=False,
    )
    confidence: float = option("Confidence level of the intervals.", default=0.95)

    def __post_init__(self) -> None:
        if not 0 < self.fdr < 1:
            raise UsageError(f"--fdr must lie strictly between 0 and 1, not {self.fdr:g}")
        if not 0.5 < self.confidence < 1:
            raise UsageError(
                f"--confidence must lie strictly between .5 and 1, not {self.confidence:g}"
            )
        if self.sequential and self.quantity == "risk":
            raise UsageError(
                "--sequential goes with --quantity rate: weighted estimates have no e-values"
            )
