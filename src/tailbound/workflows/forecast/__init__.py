"""What the estimates of a run, or of any table, say about deployment.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.forecast.result import ForecastResult

__all__ = ["ForecastResult"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
