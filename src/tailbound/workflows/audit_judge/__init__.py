"""What the judge's mistakes do to a rate: a labelled sample of the draws on record.

population the draws that a rate is estimated from
drawing    which of them are labelled
sample     the sample as a value, and the file it is kept in
sheet      a CSV file for people's labels, and its way back
judging    labels from a better judge
result     the corrected rates, and the file they are kept in
command    all of it

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.audit_judge.result import JudgeAudit
    from tailbound.workflows.audit_judge.sample import JudgeSample

__all__ = ["JudgeAudit", "JudgeSample"]

__getattr__ = lazy(__name__, {"JudgeAudit": "result", "JudgeSample": "sample"})
