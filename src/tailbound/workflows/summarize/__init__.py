"""Exact summaries of every stream in the ledger of a run.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.summarize.summary import RunSummary, StreamSummary, summarize_run

__all__ = ["RunSummary", "StreamSummary", "summarize_run"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "summary"))
