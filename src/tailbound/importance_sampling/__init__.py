"""How likely: the probability of an unsafe output for one prompt, by importance sampling.

Pure numpy. The way of the data: draws are allotted to proposals (`make_ladder`, `MixSwitch`), their
tokens' log-probs become densities of all proposals, these become weights (`balance_heuristic`), and
weights and verdicts become a `RiskEstimate` (`estimate`). Multilevel splitting (`splitting`) needs
a graded judge in place of a proposal.
"""

from tailbound.importance_sampling.allocation import (
    adaptive_allocation,
    plain_is_cheaper,
    uniform_allocation,
    weighted_allocation,
)
from tailbound.importance_sampling.cross_entropy import Choice, Grid, choose, published_grid
from tailbound.importance_sampling.diagnostics import (
    Agreement,
    Comparison,
    Group,
    Grouping,
    coverage_check,
)
from tailbound.importance_sampling.distinct import contradicted, distinct_probability
from tailbound.importance_sampling.estimate import (
    RiskEstimate,
    batch_factors,
    estimate_risk,
)
from tailbound.importance_sampling.ladder import Ladder, LadderProposal, make_ladder
from tailbound.importance_sampling.learning import (
    added_logits,
    choose_replies,
    count_tokens,
    training_shares,
    until_turn,
)
from tailbound.importance_sampling.mix_switch import MixSwitch
from tailbound.importance_sampling.splitting import (
    Birth,
    Repeat,
    RepeatResult,
    ScoredPath,
    estimate_splitting,
)
from tailbound.importance_sampling.weights import (
    balance_heuristic,
    effective_sample_size,
    mean_weight,
    standard_error,
)

__all__ = [
    "Agreement",
    "Birth",
    "Choice",
    "Comparison",
    "Grid",
    "Group",
    "Grouping",
    "Ladder",
    "LadderProposal",
    "MixSwitch",
    "Repeat",
    "RepeatResult",
    "RiskEstimate",
    "ScoredPath",
    "adaptive_allocation",
    "added_logits",
    "balance_heuristic",
    "batch_factors",
    "choose",
    "choose_replies",
    "contradicted",
    "count_tokens",
    "coverage_check",
    "distinct_probability",
    "effective_sample_size",
    "estimate_risk",
    "estimate_splitting",
    "make_ladder",
    "mean_weight",
    "plain_is_cheaper",
    "published_grid",
    "standard_error",
    "training_shares",
    "uniform_allocation",
    "until_turn",
    "weighted_allocation",
]
