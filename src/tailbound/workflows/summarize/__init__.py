"""Exact summaries of every stream in the ledger of a run."""

from tailbound.workflows.summarize.summary import RunSummary, StreamSummary, summarize_run

__all__ = ["RunSummary", "StreamSummary", "summarize_run"]
