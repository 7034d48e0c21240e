"""Another judge on the draws of a run, without sampling: both verdicts are kept.

record      what the run holds: draws, prompts, its own judge
verdicts    the new verdicts, beside the ledger
agreement   how far the two judges agree, and rates under each
job         all of it

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.rejudge.agreement import Agreement, StreamComparison, compare_stream
    from tailbound.workflows.rejudge.job import Rejudged, Workload, plan, rejudge, verdicts_id
    from tailbound.workflows.rejudge.record import check, find_prompts
    from tailbound.workflows.rejudge.verdicts import (
        VerdictWriter,
        judge_digest,
        read_verdicts,
        verdicts_folder,
    )

_HOMES = {
    "Agreement": "agreement",
    "Rejudged": "job",
    "StreamComparison": "agreement",
    "VerdictWriter": "verdicts",
    "Workload": "job",
    "check": "record",
    "compare_stream": "agreement",
    "find_prompts": "record",
    "judge_digest": "verdicts",
    "plan": "job",
    "read_verdicts": "verdicts",
    "rejudge": "job",
    "verdicts_folder": "verdicts",
    "verdicts_id": "job",
}

__all__ = [
    "Agreement",
    "Rejudged",
    "StreamComparison",
    "VerdictWriter",
    "Workload",
    "check",
    "compare_stream",
    "find_prompts",
    "judge_digest",
    "plan",
    "read_verdicts",
    "rejudge",
    "verdicts_folder",
    "verdicts_id",
]

__getattr__ = lazy(__name__, _HOMES)
