"""What a user says about where the work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError

GROUP = "Executor"

MOST_WORKERS = 4096


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """How many workers draw and score, and where they run; results do not depend on it."""

    workers: int = option(
        "Worker processes that sample and score, each with a copy of the model (default: 1, this "
        "process).",
        default=1,
        group=GROUP,
    )
    executor: Literal["local", "processes", "ray"] | None = option(
        "Where workers run: local (this process), processes (this machine), ray (a cluster); "
        "default: processes if --workers is above 1.",
        default=None,
        group=GROUP,
    )
    address: str | None = option(
        "Ray cluster to join: auto (default), local (start one on this machine), or its address.",
        default=None,
        group=GROUP,
    )

    def __post_init__(self) -> None:
        check_choices(self)
        if not 1 <= self.workers <= MOST_WORKERS:
            raise UsageError(
                f"--workers must be between 1 and {MOST_WORKERS:,}, not {self.workers}"
            )
        if self.executor == "local" and self.workers > 1:
            raise UsageError(
                f"--executor local is this process alone: remove --workers {self.workers}, or "
                "use --executor processes"
            )
        if self.address is not None and self.executor != "ray":
            raise UsageError("--address is that of a Ray cluster: add --executor ray, or remove it")

    @property
    def chosen(self) -> str:
        """`local`, `processes` or `ray`."""
        return self.executor or ("local" if self.workers == 1 else "processes")
