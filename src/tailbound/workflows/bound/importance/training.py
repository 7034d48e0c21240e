r"""A predictor from weighted draws: the safest prompts are told apart from the safe ones.

The mean of the draws of a prompt, p~ = mean X, is unbiased for its risk p, with a relative variance
c / n that hardly depends on p: c = E[X^2] / p^2. The quasi-likelihood for such data solves

    sum_i (n / c) (p~_i / p_hat_i - 1) x_i = 0,

which is the binomial regression of D_i p~_i events in D_i = (n / c) / p_hat_i draws, once the D_i
are those of its own fit: a few rounds get there. Prompts without a hit have p~ = 0 and need no
treatment of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.predictors import FittedPredictor, fit

ROUNDS = 4
SMALLEST = 1e-12

FloatArray = NDArray[np.float64]


def fit_weighted(
    features: ArrayLike,
    terms: Sequence[FloatArray],
    *,
    groups: Sequence[str] | None = None,
    seed: Sequence[int] = (0,),
) -> FittedPredictor:
    """The predictor of prompts with `features` (prompts, dimension) and draws `terms`, (n_i,) each.

    `groups` as for `tailbound.predictors.fit`. Its report counts draws and events as a binomial
    sample of the same precision would have had them.
    """
    means = np.minimum([float(one.mean()) if one.size else 0.0 for one in terms], 1.0)
    p_hat = np.full(means.size, max(float(means.mean()), SMALLEST))
    for _ in range(ROUNDS):
        draws = precision(terms, p_hat) / p_hat
        found = fit(
            features, draws * means, draws, groups=groups, rng=np.random.default_rng(list(seed))
        )
        p_hat = np.maximum(found.out_of_fold, SMALLEST)
    return found


def precision(terms: Sequence[FloatArray], p_hat: FloatArray) -> FloatArray:
    """About how many hits of equal size the draws of each prompt are worth, n / c, (prompts,).

    c is pooled over all prompts, for a prompt alone tells little of it; at least 1.
    """
    sizes = np.array([one.size for one in terms], dtype=np.float64)
    squares = sum(float((one / p) @ (one / p)) for one, p in zip(terms, p_hat, strict=True))
    spread = max(squares / max(float(sizes.sum()), 1.0), 1.0)
    return np.asarray(np.maximum(sizes, 1e-3) / spread, dtype=np.float64)
