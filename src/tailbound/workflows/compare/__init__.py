"""Two runs on the same prompts: what changed, and by how much.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.compare.result import (
        BoundChange,
        ComparedPrompt,
        CompareResult,
        Difference,
    )

__all__ = ["BoundChange", "CompareResult", "ComparedPrompt", "Difference"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
