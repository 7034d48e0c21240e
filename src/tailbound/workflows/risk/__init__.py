"""How likely, as a job: from prompts and an unsafe version of the target to risks with bounds."""

from tailbound.workflows.risk.job import Verdicts, rejudge_risk, run_risk
from tailbound.workflows.risk.proposal import Instructions, Proposal, make_proposal
from tailbound.workflows.risk.results import PromptRisk, RiskResult, SetRisk
from tailbound.workflows.risk.settings import RiskSettings

__all__ = [
    "Instructions",
    "PromptRisk",
    "Proposal",
    "RiskResult",
    "RiskSettings",
    "SetRisk",
    "Verdicts",
    "make_proposal",
    "rejudge_risk",
    "run_risk",
]
