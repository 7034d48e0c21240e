"""How much the wording of queries matters.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.sensitivity.result import SensitivityResult, WordingSpread

__all__ = ["SensitivityResult", "WordingSpread"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
