"""Another judge on the draws of a run, without sampling: both verdicts are kept.

record      what the run holds: draws, prompts, its own judge
verdicts    the new verdicts, beside the ledger
agreement   how far the two judges agree, and rates under each
job         all of it
"""

from tailbound.workflows.rejudge.agreement import Agreement, StreamComparison, compare_stream
from tailbound.workflows.rejudge.job import Rejudged, Workload, plan, rejudge, verdicts_id
from tailbound.workflows.rejudge.record import check, find_prompts
from tailbound.workflows.rejudge.verdicts import (
    VerdictWriter,
    judge_digest,
    read_verdicts,
    verdicts_folder,
)

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
