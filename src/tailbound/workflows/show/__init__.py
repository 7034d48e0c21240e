"""A run folder for people: what ran, when, what came out, what is missing, and what to do next."""

from tailbound.workflows.show.reading import show_folder
from tailbound.workflows.show.result import (
    EarlierResult,
    Overview,
    RunOverview,
    ShownResult,
    StreamState,
)

__all__ = [
    "EarlierResult",
    "Overview",
    "RunOverview",
    "ShownResult",
    "StreamState",
    "show_folder",
]
