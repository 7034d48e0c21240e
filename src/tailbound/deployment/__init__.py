"""What measured probabilities say about deployment: traffic, and the worst of many more queries.

Pure functions on arrays. `queries_of` checks estimates and their intervals, and forecasts take what
it returns. `decide` and `more_needed` say whether an interval shows that a limit is met.
"""

from tailbound.deployment.backtest import Backtest, backtest_worst
from tailbound.deployment.deconvolution import Posteriors, deconvolve, p_of, psi_of
from tailbound.deployment.queries import Queries, effective_counts, queries_of
from tailbound.deployment.requirements import decide, more_needed
from tailbound.deployment.tails import finite_k_bias, fit_gumbel, fit_pareto, straightness
from tailbound.deployment.traffic import (
    MixRisk,
    TrafficForecast,
    at_least_one,
    forecast_traffic,
    mix_risk,
)
from tailbound.deployment.wordings import (
    GroupSpread,
    VarianceComponents,
    spread_by_group,
    variance_components,
)
from tailbound.deployment.worst import (
    PublishedForecast,
    Worst,
    WorstForecast,
    forecast_worst,
    usual_top,
)

__all__ = [
    "Backtest",
    "GroupSpread",
    "MixRisk",
    "Posteriors",
    "PublishedForecast",
    "Queries",
    "TrafficForecast",
    "VarianceComponents",
    "Worst",
    "WorstForecast",
    "at_least_one",
    "backtest_worst",
    "decide",
    "deconvolve",
    "effective_counts",
    "finite_k_bias",
    "fit_gumbel",
    "fit_pareto",
    "forecast_traffic",
    "forecast_worst",
    "mix_risk",
    "more_needed",
    "p_of",
    "psi_of",
    "queries_of",
    "spread_by_group",
    "straightness",
    "usual_top",
    "variance_components",
]
