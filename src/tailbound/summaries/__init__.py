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
from tailbound.summaries.repeated import mean_of_these, restricted_time

__all__ = [
    "AtLeastOne",
    "PromptSummary",
    "SetSummary",
    "implied_bound",
    "mean_of_these",
    "restricted_time",
    "summarize_first_event",
    "summarize_fixed",
    "summarize_set",
    "unbiased",
]
