r"""How many draws each proposal gets: evenly at first, then where they help.

A complete batch may be allotted by anything seen before it. Its weights use its own counts, so the
bounds still hold at the ends of all complete batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.weights import FloatArray, IntArray, check_log_weights

#: Share of every batch that goes to the target itself.
TARGET_SHARE = 0.1
#: Every proposal keeps this part of an even share, whatever was seen.
FLOOR = 0.25
#: Effective hits that a comparison with plain Monte Carlo needs.
COMPARED_HITS = 10.0
_STEPS = 100


def uniform_allocation(
    draws: int, proposals: int, *, target_share: float = TARGET_SHARE
) -> IntArray:
    """Integer counts that sum to `draws`, shape (proposals,); number 0 is the target.

    About `target_share` of them, at least one, go to the target; the rest evenly to the others, the
    remainder to the first. Raises `UsageError` for fewer than 2 draws or proposals, or a share
    outside (0, 1).

    >>> uniform_allocation(100, 4).tolist()
    [10, 30, 30, 30]
    """
    target = _target_count(draws, proposals, target_share)
    each, left = divmod(draws - target, proposals - 1)
    counts = np.full(proposals, each, dtype=np.int64)
    counts[0] = target
    counts[1 : 1 + left] += 1
    return counts


def weighted_allocation(
    draws: int, weights: ArrayLike, *, target_share: float = TARGET_SHARE
) -> IntArray:
    """Counts in proportion to `weights` (K - 1,) of the proposals but the target, shape (K,).

    The target, number 0, gets its share as in `uniform_allocation`.

    >>> weighted_allocation(100, [1, 1, 4]).tolist()
    [10, 15, 15, 60]
    """
    given = np.asarray(weights, dtype=np.float64)
    if given.ndim != 1 or not (given >= 0).all() or not given.sum() > 0:
        raise UsageError(f"weights must be numbers >= 0 and not all 0, not {given.tolist()}")
    target = _target_count(draws, given.size + 1, target_share)
    return _whole(np.append(0.0, given / given.sum()), draws, target)


def adaptive_allocation(
    draws: int,
    log_densities: ArrayLike,
    log_weights: ArrayLike,
    harm: ArrayLike,
    *,
    target_share: float = TARGET_SHARE,
    floor: float = FLOOR,
) -> IntArray:
    r"""Counts for the next batch that make its estimate least noisy, from all draws so far.

    The second moment of the estimate under shares alpha, E_p[h^2 p / sum_k alpha_k q_k], is convex
    in alpha; it is estimated by (1 / n) sum_i w_i h_i^2 p / sum_k alpha_k q_k (y_i) and minimised
    with the target's share fixed and every other share at least `floor` times an even one. Hence,
    for whatever was seen, the true second moment is at most 1 / `floor` times that of even shares,
    and the weights keep their bound. Without hits the counts are even.

    `log_densities` (K, n) of all proposals, row 0 being the target, `log_weights` (n,) as used in
    the estimate, `harm` (n,), NaN counted as 0. Returns (K,), int64, with sum `draws`. A batch of
    other shares than the last needs its own weights (`balance_heuristic` with its own counts).

    Source: Douc, Guillin, Marin and Robert (2007), "Minimum variance importance sampling via
    population Monte Carlo" (learning the shares of a mixture from weighted draws).

    >>> densities = np.log([[0.5, 0.5, 0.5], [0.9, 0.1, 0.1], [0.1, 0.9, 0.9]])
    >>> adaptive_allocation(100, densities, [0.0, 0.0, 0.0], [0, 1, 1]).tolist()
    [10, 11, 79]
    """
    q, w = np.asarray(log_densities, dtype=np.float64), check_log_weights(log_weights)
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    if q.ndim != 2 or q.shape[1] != w.size or h.shape != w.shape:
        raise UsageError(
            "log_densities (K, n), log_weights (n,) and harm (n,) do not fit:"
            f" {q.shape}, {w.shape}, {h.shape}"
        )
    if not 0 < floor <= 1:
        raise UsageError(f"floor must lie in (0, 1], not {floor}")
    proposals = len(q)
    target = _target_count(draws, proposals, target_share)
    used = (h > 0) & (w > -np.inf)
    if not used.any():
        return uniform_allocation(draws, proposals, target_share=target_share)
    terms = np.exp(w[used] - w[used].max()) * h[used] ** 2
    ratios = np.exp(np.minimum(q[:, used] - q[0, used], 700.0))
    least = np.full(proposals, floor / (proposals - 1))
    least[0] = 0.0
    free = np.append(0.0, np.full(proposals - 1, 1 / (proposals - 1)))
    steered = 1 - target / draws
    shares = least + (1 - floor) * free
    for _ in range(_STEPS):
        mixture = target / draws + steered * (shares @ ratios)
        # alpha_k sqrt(-d/d alpha_k) keeps the sign, and stands still only at the minimum.
        pull = free * np.sqrt((ratios / mixture) @ (terms / mixture))
        free = pull / pull.sum()
        shares = least + (1 - floor) * free
    return _whole(shares, draws, target)


def plain_is_cheaper(
    counts: ArrayLike,
    log_densities: ArrayLike,
    log_weights: ArrayLike,
    harm: ArrayLike,
    *,
    cost: float = 1.0,
) -> bool:
    r"""Whether plain Monte Carlo gives a smaller error for the same cost than a batch of `counts`.

    Plain draws have a variance of at most p - p^2, those of the batch of E[(w h)^2] - p^2, at
    `cost` times the price. At 1, the default, the plain ones are better draw by draw, and also
    cheaper, for they need no scoring. Both are estimated from all draws so far, given as in
    `adaptive_allocation`: the second as (1 / n) sum_i w_i h_i^2 p / sum_k alpha_k q_k (y_i) with
    alpha_k = counts_k / sum(counts). False with fewer than `COMPARED_HITS` effective hits.

    Half of all replies are unsafe, and the second proposal draws few of them; then one in a
    hundred, and it draws them all the time:

    >>> common, rare = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.99, 0.01], [1e-9, 1.0]])
    >>> unsafe = np.tile([0, 1], 50)
    >>> plain_is_cheaper([50, 50], np.tile(common, 50), np.zeros(100), unsafe)
    True
    >>> plain_is_cheaper([50, 50], np.tile(rare, 50), np.full(100, np.log(0.02)), unsafe)
    False
    """
    n, q = np.asarray(counts, dtype=np.float64), np.asarray(log_densities, dtype=np.float64)
    w = np.exp(check_log_weights(log_weights))
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    used = w * h > 0
    terms = w[used] * h[used]
    if not used.any() or terms.sum() ** 2 / (terms @ terms) < COMPARED_HITS:
        return False
    ratios = np.exp(np.minimum(q[:, used] - q[0, used], 700.0))
    squares = float((terms * h[used] / (n / n.sum() @ ratios)).sum()) / w.size
    risk = min(float(terms.sum()) / w.size, 1.0)
    return risk - risk**2 <= cost * (squares - risk**2)


def _target_count(draws: int, proposals: int, target_share: float) -> int:
    if draws < 2 or proposals < 2:
        raise UsageError(
            f"a batch needs at least 2 draws and 2 proposals, not {draws} and {proposals}"
        )
    if not 0 < target_share < 1:
        raise UsageError(f"target_share must lie strictly between 0 and 1, not {target_share}")
    return min(max(1, round(draws * target_share)), draws - 1)


def _whole(shares: FloatArray, draws: int, target: int) -> IntArray:
    """Largest remainders: whole counts near `shares` of what the target leaves."""
    exact = shares * (draws - target)
    counts = np.floor(exact).astype(np.int64)
    left = draws - target - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:left]] += 1
    counts[0] = target
    return counts
