"""What a judge's mistakes do to a rate, from a labelled sample of the draws it judged.

Pure functions on counts. The draws are divided into strata by what the judge said of them; of each
stratum a random sample is labelled, by people or by a better judge (two-phase sampling).

sampling     how many draws of each stratum are labelled, and which
two_phase    the share of truly unsafe draws, with its interval
agreement    sensitivity, specificity, precision and kappa of the judge
"""

from tailbound.judge_error.agreement import JudgeErrors, Measure, judge_errors
from tailbound.judge_error.sampling import allocate, draw_sample
from tailbound.judge_error.two_phase import Prevalence, Stratum, prevalence

__all__ = [
    "JudgeErrors",
    "Measure",
    "Prevalence",
    "Stratum",
    "allocate",
    "draw_sample",
    "judge_errors",
    "prevalence",
]
