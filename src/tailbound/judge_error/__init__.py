"""What a judge's mistakes do to a rate, from a labelled sample of the draws it judged.

Pure functions on counts. The draws are divided into strata by what the judge said of them; of each
stratum a random sample is labelled, by people or by a better judge (two-phase sampling).

sampling     how many draws of each stratum are labelled, and which
two_phase    the share of truly unsafe draws, with its interval
weighted     the same for weighted draws, with labels where they count most
agreement    sensitivity, specificity, precision and kappa of the judge
change       the difference of two corrected rates
planning     about how many more labels would tell
bounds       what missed unsafe draws do to a lower predictive bound
"""

from tailbound.judge_error.agreement import (
    JudgeErrors,
    Measure,
    judge_errors,
    weighted_judge_errors,
)
from tailbound.judge_error.bounds import BoundMisses, bound_misses
from tailbound.judge_error.change import Change, corrected_change
from tailbound.judge_error.planning import factor_needed
from tailbound.judge_error.sampling import allocate, draw_sample
from tailbound.judge_error.two_phase import Prevalence, Stratum, prevalence
from tailbound.judge_error.weighted import Picked, WeightedStratum, pick, weighted_prevalence

__all__ = [
    "BoundMisses",
    "Change",
    "JudgeErrors",
    "Measure",
    "Picked",
    "Prevalence",
    "Stratum",
    "WeightedStratum",
    "allocate",
    "bound_misses",
    "corrected_change",
    "draw_sample",
    "factor_needed",
    "judge_errors",
    "pick",
    "prevalence",
    "weighted_judge_errors",
    "weighted_prevalence",
]
