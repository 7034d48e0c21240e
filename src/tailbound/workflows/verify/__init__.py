"""Whether the results of a run folder follow from what is on record there.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.verify.result import Check, Difference, Verification

__all__ = ["Check", "Difference", "Verification"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
