"""What the user can choose about the files of a ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.core.options import option
from tailbound.errors import UsageError

Action = Literal["verify", "compact", "stats"]
ACTIONS: tuple[Action, ...] = ("verify", "compact", "stats")


@dataclass(frozen=True, kw_only=True)
class LedgerOptions:
    """The options of `tailbound ledger` besides the run folder and what to do."""

    set_aside: bool = option(
        "verify: move damaged and foreign shards to damaged/, so that a repeat of the run's "
        "command makes their draws again.",
        default=False,
    )
    rows: int = option("compact: largest number of draws in one shard.", default=1_000_000)

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError(f"--rows must be a whole number of at least 1, not {self.rows}")
