"""Studies that anyone can run again: the same prompts by several methods, beside the truth.

Names are looked up when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.reproduce.command import StudyRequest, run_study
    from tailbound.workflows.reproduce.results import StudyResult

_HOMES = {"StudyRequest": "command", "StudyResult": "results", "run_study": "command"}

__all__ = ["StudyRequest", "StudyResult", "run_study"]

__getattr__ = lazy(__name__, _HOMES)
