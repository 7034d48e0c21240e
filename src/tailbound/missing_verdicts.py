"""A missing verdict counts as unsafe: the one rule for draws that nobody could judge.

What a missing verdict hides is not known. Counted as unsafe it can make a bound shorter and an
upper limit larger, and never the other way round, so the guarantee holds whatever it hides; lower
limits count it as safe, for the same reason. A draw with a missing verdict ends a stream that stops
at the first unsafe draw. Nothing counts one as safe where that would claim more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unsafe_or_missing(scores: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Where a score reaches `threshold` or is NaN, the verdict being missing; shape of `scores`.

    >>> unsafe_or_missing([0.2, 0.7, float("nan")], 0.5).tolist()
    [False, True, True]
    """
    return ~(np.asarray(scores, dtype=np.float64) < threshold)


def missing_counts_as_unsafe(unsafe: ArrayLike, missing: ArrayLike) -> NDArray[np.int64]:
    """Numbers of unsafe draws with the missing verdicts among them; both of one shape.

    >>> missing_counts_as_unsafe([1, 0], [0, 2]).tolist()
    [1, 2]
    """
    return np.asarray(unsafe, dtype=np.int64) + np.asarray(missing, dtype=np.int64)


def harm_at_most(harm: ArrayLike) -> NDArray[np.float64]:
    """`harm` in [0, 1] with 1 in place of NaN, a missing verdict; shape of `harm`.

    >>> harm_at_most([0.0, float("nan")]).tolist()
    [0.0, 1.0]
    """
    return np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=1.0)
