"""Two runs on the same prompts: which prompts changed, and by how much all of them did.

Pure functions on arrays. `A` is the first run, `B` the second; differences are B - A.
"""

from tailbound.comparison.discoveries import benjamini_hochberg, e_benjamini_hochberg
from tailbound.comparison.means import MeanChange, draw_by_draw, geometric_ratio, mean_change
from tailbound.comparison.proportions import exact_p_values, log_ratio_p_values
from tailbound.comparison.sequential import RATIOS, paired_e_values

__all__ = [
    "RATIOS",
    "MeanChange",
    "benjamini_hochberg",
    "draw_by_draw",
    "e_benjamini_hochberg",
    "exact_p_values",
    "geometric_ratio",
    "log_ratio_p_values",
    "mean_change",
    "paired_e_values",
]
