"""Draws that were paid for elsewhere: tables, lm-evaluation-harness, garak and Inspect logs."""

from tailbound.workflows.import_.base import ImportedDraw, Source
from tailbound.workflows.import_.formats import FORMATS, read_source
from tailbound.workflows.import_.job import ImportResult, import_run

__all__ = ["FORMATS", "ImportResult", "ImportedDraw", "Source", "import_run", "read_source"]
