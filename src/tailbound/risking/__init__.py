"""How likely, as a job: from prompts and an unsafe version of the target to risks with bounds."""

from tailbound.risking.job import Verdicts, rejudge_risk, run_risk
from tailbound.risking.proposal import Instructions, Proposal, make_proposal
from tailbound.risking.results import PromptRisk, RiskResult, SetRisk
from tailbound.risking.settings import RiskSettings

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
