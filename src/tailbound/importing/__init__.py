"""Draws that were paid for elsewhere: tables, lm-evaluation-harness, garak and Inspect logs."""

from tailbound.importing.base import ImportedDraw, Source
from tailbound.importing.formats import FORMATS, read_source
from tailbound.importing.job import ImportResult, import_run

__all__ = ["FORMATS", "ImportResult", "ImportedDraw", "Source", "import_run", "read_source"]
