"""How likely, as a job: from prompts and an unsafe version of the target to risks with bounds.

Names are looked up when they are asked for: checks and the help of the command line need none of
what they bring along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.risk.job import run_risk
    from tailbound.workflows.risk.proposal import make_proposal
    from tailbound.workflows.risk.proposals import Instructions, Proposal, Proposals
    from tailbound.workflows.risk.rejudged import Verdicts, rejudge_risk
    from tailbound.workflows.risk.results import PromptRisk, RiskResult, SetRisk
    from tailbound.workflows.risk.settings import RiskSettings

_HOMES = {
    "Instructions": "proposals",
    "PromptRisk": "results",
    "Proposal": "proposals",
    "Proposals": "proposals",
    "RiskResult": "results",
    "RiskSettings": "settings",
    "SetRisk": "results",
    "Verdicts": "rejudged",
    "make_proposal": "proposal",
    "rejudge_risk": "rejudged",
    "run_risk": "job",
}

__all__ = [
    "Instructions",
    "PromptRisk",
    "Proposal",
    "Proposals",
    "RiskResult",
    "RiskSettings",
    "SetRisk",
    "Verdicts",
    "make_proposal",
    "rejudge_risk",
    "run_risk",
]

__getattr__ = lazy(__name__, _HOMES)
