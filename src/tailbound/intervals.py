"""Confidence intervals that hold in finite samples, and what counts say of fewer draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError


def clopper_pearson(
    events: ArrayLike, draws: ArrayLike, *, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact two-sided interval for a probability from `events` in `draws` independent draws.

    Shapes broadcast; returns (lower, upper). The lower end is 0 without events, the upper end 1
    where every draw is one; no draws give [0, 1]. Source: Clopper and Pearson (1934).

    >>> lower, upper = clopper_pearson(0, 500, confidence=0.9)
    >>> float(lower), round(float(upper), 4)
    (0.0, 0.006)
    """
    from scipy.special import betaincinv

    k, n = np.broadcast_arrays(
        np.asarray(events, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    )
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if ((k < 0) | (k > n)).any():
        raise UsageError("events must lie between 0 and draws")
    tail = (1 - confidence) / 2
    # The ends solve P(at least k) = tail and P(at most k) = tail; betaincinv wants a, b > 0.
    lower = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    upper = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return lower, upper


def none_among(draws: ArrayLike, events: ArrayLike, some: ArrayLike) -> NDArray[np.float64]:
    """P(no event among `some` of `draws` draws, `events` of them events), in any order.

    C(n - c, t) / C(n, t), hypergeometric, with mean (1 - p)^t over c; symmetric in c and t. Shapes
    broadcast; 0 <= events, some <= draws, and `some` need not be whole.

    >>> none_among(10, [2, 0, 9], 5).round(12).tolist()
    [0.222222222222, 1.0, 0.0]
    """
    from scipy.special import gammaln

    n, c, t = (np.asarray(x, dtype=np.float64) for x in (draws, events, some))
    rest = n - c - t
    log_none = (gammaln(n - c + 1) - gammaln(np.maximum(rest, 0.0) + 1) - gammaln(n + 1)) + gammaln(
        n - t + 1
    )
    return np.where(rest >= 0, np.exp(np.minimum(log_none, 0.0)), 0.0)


#: The bets of `betting_lower`, fixed in advance: spread evenly on a log scale, because the best one
#: is about sqrt(6 / n) over the relative standard deviation of the values, which may be anything.
#: The stakes are those of a Cauchy law around .03, good for 100 to 10,000 draws of rare events.
_LOWER_BETS = np.concatenate([np.geomspace(1e-5, 0.5, 20), [0.7, 0.85, 0.95]])
_LOWER_PRIOR = 1 / (1 + (np.log(_LOWER_BETS / 0.03) / 3) ** 2)
_LOWER_PRIOR /= _LOWER_PRIOR.sum()
#: The bets of `betting_upper`: half of the stake near 1, the best bet when nothing was seen.
_UPPER_BETS = np.concatenate([np.geomspace(1e-3, 0.5, 10), [0.7, 0.85, 0.95, 0.99]])
_UPPER_PRIOR = np.concatenate([np.full(_UPPER_BETS.size - 1, 0.5 / (_UPPER_BETS.size - 1)), [0.5]])
#: Most numbers in one temporary array.
_BLOCK = 2**20


def betting_lower(
    values: ArrayLike, *, confidence: float = 0.95, counts: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""One-sided lower confidence bound for a mean of values >= 0 of any size, finite-sample.

    For X_1..X_n >= 0 and a guess m of their mean, bets theta_1..theta_G in (0, 1) that were fixed
    in advance, with stakes pi_j that sum to 1, win

        K(m) = sum_j pi_j prod_i (1 + theta_j (X_i / m - 1)),

    decreasing in m. The bound is the smallest m with K(m) < 1 / (1 - confidence); it is 0 when all
    values are 0 and scales with the values. No bound on the values is needed.

    Why it holds: at the true mean mu, E K(mu) <= 1, and Markov's inequality. When the X_i are
    independent with *different* means mu_i of average mu (draws from several proposals in counts
    that were fixed in advance), E prod_i (1 + theta (X_i / mu - 1)) = prod_i (1 + theta (mu_i / mu
    - 1)) <= 1 by the inequality of arithmetic and geometric means, so it holds for one such batch,
    and, by Ville's inequality, at the ends of all complete batches at once when every batch has
    mean mu given the past. With independent, identically distributed values every n is such an end.

    `values` has shape (..., n) and the result (...). `counts`, of the same shape, says how often
    each value occurs (default: once). Raises `UsageError` for values that are negative or not
    finite, for counts that are no such numbers, and for a confidence outside (0, 1).

    Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by
    betting", section 4 (capital processes; a mixture of constant bets in place of adaptive ones).

    >>> float(betting_lower([0.0, 0.0, 0.0]))
    0.0
    >>> bound = betting_lower(np.tile([0.0, 2.0], 250))
    >>> 0.8 < float(bound) < 1
    True
    """
    x = _rows(values, confidence)
    if (x < 0).any():
        raise UsageError(f"values must not be negative, but one is {x.min():g}")
    times = np.ones_like(x) if counts is None else _rows(counts, confidence)
    if times.shape != x.shape or (times < 0).any() or (times != np.floor(times)).any():
        raise UsageError("counts must be whole numbers of at least 0, one for each value")
    x = np.where(times > 0, x, 0.0)
    scale = x.max(axis=-1, initial=0.0)
    some = scale > 0
    bound = np.zeros(x.shape[:-1])
    if some.any():
        # Divided by the largest value (not multiplied by its inverse, which may overflow).
        shares = x[some] / scale[some][:, None]
        root = _smallest_mean(shares, times[some], confidence, _LOWER_BETS, _LOWER_PRIOR)
        bound[some] = scale[some] * root
    return bound


def betting_upper(
    values: ArrayLike, *, bound: float = 1.0, confidence: float = 0.95
) -> NDArray[np.float64]:
    r"""One-sided upper confidence bound for a mean of values in [0, `bound`], finite-sample.

    `bound` minus `betting_lower` of (`bound` - values), with bets that suit it; it holds under the
    same conditions. With n values of 0 it is about 3.6 `bound` / n at confidence .95, and no method
    can be far below that. Shapes and errors as for `betting_lower`; values above `bound` are an
    error too.

    >>> round(float(betting_upper(np.zeros(500))), 4)
    0.0071
    """
    x = _rows(values, confidence)
    if not (np.isfinite(bound) and bound > 0):
        raise UsageError(f"bound must be positive and finite, not {bound}")
    if ((x < 0) | (x > bound)).any():
        worst = x.max() if (x > bound).any() else x.min()
        raise UsageError(f"values must lie in [0, {bound:g}], but one is {worst:g}")
    if x.shape[-1] == 0:
        return np.full(x.shape[:-1], float(bound))
    # The zeros, often nearly all, are counted rather than repeated: the first column is 1, as many
    # times as there are zeros, and the values follow, largest first, down to the last that is > 0.
    zeros = (x == 0).sum(axis=-1)
    x = -np.sort(-x, axis=-1)[..., : x.shape[-1] - int(zeros.min(initial=x.shape[-1]))]
    rest = np.concatenate([np.ones((*x.shape[:-1], 1)), 1 - x / bound], axis=-1)
    times = np.concatenate([zeros[..., None], x > 0], axis=-1).astype(np.float64)
    flat = (-1, rest.shape[-1])
    root = _smallest_mean(
        rest.reshape(flat), times.reshape(flat), confidence, _UPPER_BETS, _UPPER_PRIOR
    )
    return np.asarray(bound * (1 - root.reshape(x.shape[:-1])), dtype=np.float64)


def empirical_bernstein(
    values: ArrayLike, *, bound: float = 1.0, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Two-sided interval for a mean of independent values in [0, `bound`], in closed form.

        mean +- ( sqrt(2 V ln(4 / delta) / n) + 7 `bound` ln(4 / delta) / (3 (n - 1)) ),

    with delta = 1 - confidence, V the sample variance (divisor n - 1), cut to [0, `bound`]. Wider
    than betting, and its n must be fixed in advance; for checks and for very many values. `values`
    has shape (..., n), the ends (...); fewer than two values give [0, `bound`]. Raises `UsageError`
    for values outside [0, `bound`] or not finite.

    Source: Maurer and Pontil (2009), theorems 4 and 11 (one side at delta each), both sides at
    delta / 2.

    >>> lower, upper = empirical_bernstein(np.tile([0.0, 1.0], 500))
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.443, 0.557)
    """
    x = _rows(values, confidence)
    if not (np.isfinite(bound) and bound > 0):
        raise UsageError(f"bound must be positive and finite, not {bound}")
    if ((x < 0) | (x > bound)).any():
        worst = x.max() if (x > bound).any() else x.min()
        raise UsageError(f"values must lie in [0, {bound:g}], but one is {worst:g}")
    n = x.shape[-1]
    if n < 2:
        return np.zeros(x.shape[:-1]), np.full(x.shape[:-1], float(bound))
    log_term = np.log(4 / (1 - confidence))
    mean, variance = x.mean(axis=-1), x.var(axis=-1, ddof=1)
    width = np.sqrt(2 * variance * log_term / n) + 7 * bound * log_term / (3 * (n - 1))
    lower, upper = np.maximum(mean - width, 0.0), np.minimum(mean + width, bound)
    return np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)


def _rows(values: ArrayLike, confidence: float) -> NDArray[np.float64]:
    """`values` as float64 with at least one axis, checked."""
    x = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    if not np.isfinite(x).all():
        wrong = x[~np.isfinite(x)][0]
        raise UsageError(f"values must be finite, but one is {wrong}; leave missing ones out")
    return x


def _smallest_mean(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    confidence: float,
    bets: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The root m of K(m) = 1 / (1 - confidence), from below; `values` (rows, c) count `times` each.

    0 for a row without a value above 0.
    """
    draws = times.sum(axis=-1)
    times = np.where(values > 0, times, 0.0)
    order = np.argsort(np.where(times > 0, -values, 1.0), axis=-1)
    width = max(1, int((times > 0).sum(axis=-1).max(initial=0)))
    values = np.take_along_axis(values, order, -1)[:, :width]
    times = np.take_along_axis(times, order, -1)[:, :width]
    root = np.zeros(len(values))
    rows = np.flatnonzero(times[:, 0] > 0)
    step = max(1, _BLOCK // (width * bets.size))
    for part in (rows[i : i + step] for i in range(0, len(rows), step)):
        root[part] = _newton(values[part], times[part], draws[part], confidence, bets, prior)
    return root


def _newton(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    draws: NDArray[np.float64],
    confidence: float,
    bets: NDArray[np.float64],
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Newton's method in log m, from the left, for values sorted downward (unused: times 0, last).

    log K is convex and decreasing in log m (a log-sum-exp of sums of such functions), so steps from
    the left never pass the root: wherever they stop, the result is a valid lower bound.
    """
    log_x = np.log(np.where(times > 0, values, 1.0))
    target = -np.log1p(-confidence)
    log_odds = np.log(bets) - np.log1p(-bets)
    # A value of 0 multiplies the capital by 1 - theta, a value x by that times (1 + odds x / m).
    base = draws[:, None] * np.log1p(-bets) + np.log(prior)
    # Start: one bet, and only the k largest values count; then the equation is linear in log m.
    k, sums = np.cumsum(times, axis=-1), np.cumsum(times * log_x, axis=-1)
    start = (
        log_odds[None, :, None] + ((base - target)[:, :, None] + sums[:, None, :]) / k[:, None, :]
    )
    log_m = start.max(axis=(1, 2))
    for _ in range(200):
        gain = np.exp(log_odds[None, :, None] + (log_x - log_m[:, None])[:, None, :])
        capital = base + np.einsum("pgc,pc->pg", np.log1p(gain), times)
        slope = -np.einsum("pgc,pc->pg", gain / (1 + gain), times)
        top = capital.max(axis=-1)
        share = np.exp(capital - top[:, None])
        excess = top + np.log(share.sum(axis=-1)) - target
        change = -excess * share.sum(axis=-1) / (share * slope).sum(axis=-1)
        log_m += np.maximum(change, 0.0)
        if (change < 1e-13).all():
            break
    return np.asarray(np.exp(log_m), dtype=np.float64)
