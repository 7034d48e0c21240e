"""The draws of a run folder in the format of another tool.

    run folder -> `selection` (which draws) -> `inspect_log` (an Inspect log, with `metrics`)

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.export.result import ExportResult
    from tailbound.workflows.export.selection import ExportedStratum

__all__ = ["ExportResult", "ExportedStratum"]

__getattr__ = lazy(__name__, {"ExportResult": "result", "ExportedStratum": "selection"})
