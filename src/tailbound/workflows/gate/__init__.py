"""Requirements on the results of a run: met only where they are shown.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.gate.assessment import Assessment, Requirement
    from tailbound.workflows.gate.result import GateResult

__all__ = ["Assessment", "GateResult", "Requirement"]

__getattr__ = lazy(
    __name__,
    {"Assessment": "assessment", "Requirement": "assessment", "GateResult": "result"},
)
