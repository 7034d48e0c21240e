"""Exact summaries of draws on record: intervals per prompt and for the set, by stopping rule."""

from tailbound.summaries.counts import (
    AtLeastOne,
    PromptSummary,
    implied_bound,
    summarize_first_event,
    summarize_fixed,
    unbiased,
)
from tailbound.summaries.run import RunSummary, StreamSummary, summarize_run
from tailbound.summaries.whole import SetSummary, summarize_set

__all__ = [
    "AtLeastOne",
    "PromptSummary",
    "RunSummary",
    "SetSummary",
    "StreamSummary",
    "implied_bound",
    "summarize_first_event",
    "summarize_fixed",
    "summarize_run",
    "summarize_set",
    "unbiased",
]
