r"""Arithmetic of importance weights, in logs and float64.

A draw y that came from a proposal q has the weight w = p(y) / q(y), p being the target.
`log_weights` are natural logarithms of it; -inf is a weight of 0 (the target cannot say y), +inf
and NaN are errors: a draw has a positive density under what it was drawn from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def check_log_weights(log_weights: ArrayLike) -> FloatArray:
    """`log_weights` as a float64 array of shape (n,), n >= 1, or `UsageError`."""
    w = np.asarray(log_weights, dtype=np.float64)
    if w.ndim != 1 or w.size == 0:
        raise UsageError(f"log_weights must be one row of at least one draw, not shape {w.shape}")
    wrong = np.isnan(w) | (w == np.inf)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise UsageError(
            f"log_weights must be below +inf and not NaN, but draw {first} has {w[first]}:"
            " its density under the proposal is missing or 0"
        )
    return w


def log_sum(log_terms: FloatArray, axis: int = -1) -> FloatArray:
    """log sum exp(log_terms) along `axis`; -inf for no terms or only terms of 0."""
    top = np.max(log_terms, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(log_terms - top).sum(axis=axis))
    return np.asarray(total + np.squeeze(top, axis=axis), dtype=np.float64)


def effective_sample_size(log_terms: ArrayLike) -> float:
    """(sum t)^2 / sum t^2 of terms t = exp(log_terms), shape (n,); 0 when all terms are 0.

    How many equal terms would be as noisy (Kong 1992). Of terms w h this is ESS_harm, the number of
    effective hits.

    >>> round(effective_sample_size([0.0, 0.0, -float("inf")]), 12)
    2.0
    """
    t = np.asarray(log_terms, dtype=np.float64)
    top = t.max(initial=-np.inf)
    if top == -np.inf:
        return 0.0
    shares = np.exp(t - top)
    return float(shares.sum() ** 2 / (shares**2).sum())


def balance_heuristic(
    log_target: ArrayLike, log_proposals: ArrayLike, counts: ArrayLike
) -> FloatArray:
    r"""Log-weights of draws that were taken from several proposals in fixed counts.

        w(y) = p(y) / sum_k (n_k / n) q_k(y),        n = sum_k n_k,

    the same formula whichever proposal y came from. `log_target` has shape (n,), log p(y_i);
    `log_proposals` (K, n), log q_k(y_i) for every proposal and every draw; `counts` (K,), the draws
    that were really taken from each (those of one complete batch; more batches with the same shares
    give the same weights). Proposals with a count of 0 have no part. Where the target itself is one
    of the proposals, w <= n / n_target. Returns (n,), float64.

    The mean of w h over draws in these counts is unbiased for E_p[h], and no other weighting of the
    same draws has a variance lower than this one by more than (1 / min_k n_k - 1 / n) E_p[h]^2.
    Raises `UsageError` for shapes that do not fit and for counts that are negative or all 0.

    Source: Veach and Guibas (1995), section 3 (the balance heuristic) and theorem 1.

    >>> balance_heuristic([-2.0], [[-2.0], [-2.0]], [1, 9])
    array([0.])
    """
    p = np.asarray(log_target, dtype=np.float64)
    q = np.asarray(log_proposals, dtype=np.float64)
    share = _shares(counts)
    if p.ndim != 1 or q.shape != (share.size, p.size):
        raise UsageError(
            f"log_proposals must have shape (proposals, draws) = ({share.size}, {p.size}),"
            f" not {q.shape}"
        )
    if np.isnan(p).any() or np.isnan(q).any():
        raise UsageError("log-densities must not be NaN: score every draw under every proposal")
    used = share > 0
    mixture = log_sum(q[used] + np.log(share[used])[:, None], axis=0)
    # The target may exclude y although a proposal said it: then the weight is 0.
    return np.where(p == -np.inf, -np.inf, p - np.where(p == -np.inf, 0.0, mixture))


def _shares(counts: ArrayLike) -> FloatArray:
    n = np.asarray(counts, dtype=np.float64)
    if n.ndim != 1 or not np.isfinite(n).all() or (n < 0).any() or n.sum() == 0:
        raise UsageError(f"counts must be draws per proposal, >= 0 and not all 0, not {n.tolist()}")
    return np.asarray(n / n.sum(), dtype=np.float64)


def standard_error(values: ArrayLike, strata: ArrayLike | None = None) -> float:
    r"""Standard error of the mean of `values`, shape (n,), from the sample; NaN for n < 2.

    Without `strata`: s / sqrt(n). With `strata` (n,), labels of the proposal (and batch) that each
    draw came from in counts n_k that were fixed in advance: sqrt(sum_k n_k s_k^2) / n, which leaves
    out the differences between strata because they do not vary. Strata of one draw are taken
    together; if there is only one such draw, it is treated as if its stratum were all draws.

    Source: Cochran (1977), Sampling Techniques, chapter 5 (stratified means, collapsed strata).

    >>> round(standard_error([0.0, 0.0, 1.0, 1.0]), 3)
    0.289
    >>> standard_error([0.0, 0.0, 1.0, 1.0], strata=["target", "target", "steered", "steered"])
    0.0
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.size
    if n < 2:
        return float("nan")
    if strata is None:
        return float(np.sqrt(x.var(ddof=1) / n))
    labels = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(labels)
    alone = sizes[labels] == 1
    if alone.any():
        labels = np.where(alone, sizes.size, labels)
        sizes = np.bincount(labels)
    means = np.bincount(labels, x) / np.maximum(sizes, 1)
    squares = np.bincount(labels, (x - means[labels]) ** 2)
    several = sizes > 1
    total = float((sizes[several] * squares[several] / (sizes[several] - 1)).sum())
    if alone.sum() == 1:
        total += float(x.var(ddof=1))
    return float(np.sqrt(total)) / n


def mean_weight(
    log_weights: ArrayLike, strata: ArrayLike | None = None, *, largest: float | None = None
) -> tuple[float, float]:
    r"""The mean weight, 1 in expectation, and its z-score: the first test of everything.

    z = (mean - 1) / sqrt(se^2 + (max w / n)^2). The second term is what one draw more or less of
    the largest kind would change: the sample's own standard error is far too small when the draws
    of large weight are so rare that none was met. Where it is known how large a weight can be,
    `largest` stands for the largest that was met. `log_weights` and `strata` as in
    `standard_error`, shape (n,). A z beyond 4 says that a density is wrong, not that the estimate
    is noisy; the converse does not hold for weights without a bound.

    >>> mean, z = mean_weight(np.log([0.5, 1.5, 1.0, 1.0]))
    >>> round(mean, 12), abs(z) < 1e-12
    (1.0, True)
    >>> mean, z = mean_weight(np.log([0.1, 0.1, 0.1, 0.1]), largest=10)
    >>> round(mean, 12), round(z, 2)
    (0.1, -0.36)
    """
    with np.errstate(over="ignore"):
        w = np.exp(check_log_weights(log_weights))
    mean = float(w.mean())
    if not np.isfinite(mean):
        return float("inf"), float("inf")
    if (w == 1).all():
        return 1.0, 0.0
    most = float(w.max()) if largest is None else max(float(w.max()), largest)
    error = standard_error(w, strata) if w.size > 1 else 0.0
    return mean, float((mean - 1) / np.hypot(error, most / w.size)) if most > 0 else -np.inf
