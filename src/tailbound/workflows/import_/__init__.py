"""Draws that were paid for elsewhere: tables, lm-evaluation-harness, garak and Inspect logs.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.import_.base import ImportedDraw, Source
    from tailbound.workflows.import_.formats import FORMATS, read_source
    from tailbound.workflows.import_.job import ImportResult, import_run

__all__ = ["FORMATS", "ImportResult", "ImportedDraw", "Source", "import_run", "read_source"]

__getattr__ = lazy(
    __name__,
    {
        "FORMATS": "formats",
        "ImportResult": "job",
        "ImportedDraw": "base",
        "Source": "base",
        "import_run": "job",
        "read_source": "formats",
    },
)
