"""What the user can choose about a verification."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The options of `tailbound verify` besides the run."""

    tolerance: float = option(
        "Relative difference up to which two numbers are equal; counts must be the same.",
        default=1e-9,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise UsageError(f"--tolerance must lie in [0, 1), not {self.tolerance:g}")
