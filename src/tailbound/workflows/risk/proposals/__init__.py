"""Where the unsafe versions of a target come from: what `--proposal KIND:NAME` can mean.

base        `Proposal`, what it is made from, and several of them
registry    proposals by name, built in or from plugins
refusal     along the direction that carries refusals
persona     a trait: its vector, or one of its system prompts
instructed  under another system prompt
networks    another checkpoint, or an adapter of the target
"""

from tailbound.workflows.risk.proposals.base import (
    Instructions,
    Proposal,
    ProposalQuery,
    ProposalRequest,
    Proposals,
)
from tailbound.workflows.risk.proposals.registry import (
    ProposalProvider,
    find_proposal,
    list_proposals,
)

__all__ = [
    "Instructions",
    "Proposal",
    "ProposalProvider",
    "ProposalQuery",
    "ProposalRequest",
    "Proposals",
    "find_proposal",
    "list_proposals",
]
