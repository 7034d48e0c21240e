"""Exact summaries of draws on record: intervals per prompt and for the set, by stopping rule."""

from tailbound.summaries.population import SetSummary, summarize_set
from tailbound.summaries.prompt_intervals import (
    AtLeastOne,
    PromptSummary,
    implied_bound,
    summarize_first_event,
    summarize_fixed,
    unbiased,
)
from tailbound.workflows.summarize.summary import RunSummary, StreamSummary, summarize_run

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
