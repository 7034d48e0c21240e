"""One page about one or several runs: what came out, what it rests on, and what it cost.

    run folders -> `sections` (what the page says: plain values) -> `html` | `markdown`

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.report.result import Report

__all__ = ["Report"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
