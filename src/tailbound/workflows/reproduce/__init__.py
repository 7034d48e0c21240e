"""Studies that anyone can run again: methods of risks and designs of bounds, beside the truth.

Names are looked up when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.reproduce.command import StudyRequest, run_study
    from tailbound.workflows.reproduce.realtoxicity.results import CompletionResult
    from tailbound.workflows.reproduce.results import StudyResult
    from tailbound.workflows.reproduce.synthetic.results import SyntheticResult

_HOMES = {
    "CompletionResult": "realtoxicity.results",
    "StudyRequest": "command",
    "StudyResult": "results",
    "SyntheticResult": "synthetic.results",
    "run_study": "command",
}

__all__ = ["CompletionResult", "StudyRequest", "StudyResult", "SyntheticResult", "run_study"]

__getattr__ = lazy(__name__, _HOMES)
