"""What the user can choose about a served report."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.options import option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """The options of `tailbound view` besides the run folders."""

    port: int = option("Port on 127.0.0.1 (0: any that is free).", default=0)
    show_unsafe: bool = option(
        "Include examples of unsafe responses, each behind a click.", default=False
    )
    no_browser: bool = option("Print the address only; open no browser.", default=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port must lie between 0 and 65535, not {self.port}")
