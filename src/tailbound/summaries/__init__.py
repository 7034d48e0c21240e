"""Exact summaries of counted draws: intervals per prompt and for the set, by stopping rule."""

from tailbound.summaries.population import SetSummary, summarize_set
from tailbound.summaries.prompt_intervals import (
    AtLeastOne,
    PromptSummary,
    implied_bound,
    summarize_first_event,
    summarize_fixed,
    unbiased,
)

__all__ = [
    "AtLeastOne",
    "PromptSummary",
    "SetSummary",
    "implied_bound",
    "summarize_first_event",
    "summarize_fixed",
    "summarize_set",
    "unbiased",
]
