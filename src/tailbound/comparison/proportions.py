"""p-values of one prompt in two runs: counts of draws, or weighted estimates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError

TIE = 1e-7
"""Tables whose probability exceeds that of the observed one by less are as extreme as it."""


def exact_p_values(
    events_a: ArrayLike,
    draws_a: ArrayLike,
    events_b: ArrayLike,
    draws_b: ArrayLike,
    *,
    missing_a: ArrayLike = 0,
    missing_b: ArrayLike = 0,
) -> NDArray[np.float64]:
    r"""Exact two-sided p-values that two probabilities are equal (Fisher's test).

    Given the events in both together, those of A are hypergeometric if the probabilities are equal;
    the p-value is the probability of all splits that are no more likely than the observed one. It
    is never too small, whatever the probability is, and larger than it had to be for few events.
    `draws` include the `missing` verdicts, which are placed so that the two rates are as near to
    each other as they can be. Counts of shape (m,) or numbers; the result has shape (m,). Raises
    `UsageError` for counts that cannot be.

    Source: Fisher (1935); the two-sided rule is that of minimum likelihood.

    >>> exact_p_values([0, 3], [100, 100], [9, 4], [100, 100]).round(4).tolist()
    [0.0032, 1.0]
    >>> exact_p_values([0], [100], [9], [100], missing_b=[6]).round(4).tolist()
    [0.0032]
    >>> exact_p_values([0], [100], [9], [100], missing_a=[6]).round(4).tolist()
    [0.5928]
    """
    given = (events_a, draws_a, missing_a, events_b, draws_b, missing_b)
    counts = np.broadcast_arrays(*(np.atleast_1d(np.asarray(one)) for one in given))
    if any(one.ndim != 1 or not np.issubdtype(one.dtype, np.integer) for one in counts):
        raise UsageError("counts must be lists of whole numbers")
    a, n, lost_a, b, m, lost_b = (one.astype(np.int64) for one in counts)
    for events, lost, draws in ((a, lost_a, n), (b, lost_b, m)):
        if ((events < 0) | (lost < 0) | (events + lost > draws) | (draws < 1)).any():
            raise UsageError(
                "inconsistent counts: events and missing verdicts must be at least 0, and together "
                "at most the draws, of which there must be one"
            )
    low = a * m <= b * n  # the rate of A is the lower one
    nearer_a = np.where(low, a + lost_a, a)
    nearer_b = np.where(low, b, b + lost_b)
    crossed = np.where(low, nearer_a * m > nearer_b * n, nearer_a * m < nearer_b * n)
    rows = np.stack([nearer_a, n, nearer_b, m], axis=1)
    rows, back = np.unique(rows, axis=0, return_inverse=True)
    found = np.array([_fisher(*map(int, row)) for row in rows]).reshape(-1)[back.reshape(-1)]
    return np.where(crossed, 1.0, found)


def _fisher(a: int, n: int, b: int, m: int) -> float:
    from scipy.special import gammaln

    def log_choose(top: int, k: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(top + 1) - gammaln(k + 1) - gammaln(top - k + 1))

    both = a + b
    k = np.arange(max(0, both - m), min(n, both) + 1, dtype=np.float64)
    log_p = log_choose(n, k) + log_choose(m, both - k)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    return float(min(1.0, p[p <= p[a - int(k[0])] * (1 + TIE)].sum()))


def log_ratio_p_values(
    risk_a: ArrayLike,
    error_a: ArrayLike,
    hits_a: ArrayLike,
    risk_b: ArrayLike,
    error_b: ArrayLike,
    hits_b: ArrayLike,
) -> NDArray[np.float64]:
    r"""Two-sided p-values that two estimated risks are equal, asymptotic, on the log scale.

        t = (log r_B - log r_A) / sqrt(v_A + v_B),   v = (standard error / risk)^2,

    against Student's t with Welch and Satterthwaite's degrees of freedom, (v_A + v_B)^2 /
    (v_A^2 / (h_A - 1) + v_B^2 / (h_B - 1)), where h are the effective numbers of hits: weighted
    estimates are skewed, and few hits say little about their own error. Shape (m,); 1 where an
    estimate has no more than one effective hit, or a risk or an error is 0: draws that are all
    alike (all unsafe, say) do not say how far off they are. Raises `UsageError` for risks or
    errors that are negative or not finite.

    >>> log_ratio_p_values([1e-4], [1e-5], [40.0], [2e-4], [2e-5], [40.0]).round(6).tolist()
    [5e-06]
    >>> log_ratio_p_values([1e-4], [9e-5], [1.5], [2e-4], [2e-5], [40.0]).round(1).tolist()
    [0.7]
    """
    from scipy.special import stdtr

    given = (risk_a, error_a, hits_a, risk_b, error_b, hits_b)
    values = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in given))
    if any(not (np.isfinite(one) & (one >= 0)).all() for one in values):
        raise UsageError("risks, errors and effective hits must be finite and at least 0")
    p, se_p, h_p, q, se_q, h_q = values
    usable = (p > 0) & (q > 0) & (h_p > 1) & (h_q > 1) & (se_p > 0) & (se_q > 0)
    result = np.ones(p.shape)
    p, se_p, h_p, q, se_q, h_q = (one[usable] for one in values)
    first, second = (se_p / p) ** 2, (se_q / q) ** 2
    t = np.abs(np.log(q) - np.log(p)) / np.sqrt(first + second)
    freedom = (first + second) ** 2 / (first**2 / (h_p - 1) + second**2 / (h_q - 1))
    result[usable] = np.minimum(2 * stdtr(freedom, -t), 1.0)
    return result
