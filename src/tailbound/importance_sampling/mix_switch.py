r"""The published family of proposals: a mixture at every token, up to a switch.

With p(v | y_<t) the target and s(v | y_<t) the model steered at one intensity, token t is drawn
from

    a s(v | y_<t) + (1 - a) p(v | y_<t)    for t < t_switch,       p(v | y_<t)    from t_switch on.

Source: Angell et al., arXiv 2604.22167 (proposal family). With a = 1 and t_switch at the end it is
the steered model itself. Weights have no useful bound: (1 - a)^-t_switch at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.importance_sampling.token_sums import PrefixSums, check_token_log_probs
from tailbound.importance_sampling.weights import FloatArray


@dataclass(frozen=True)
class MixSwitch:
    """Intensity of steering, mixing share a in [0, 1] and switch t_switch >= 0 of the family.

    >>> proposal = MixSwitch(intensity=1.0, mixing=0.5, switch=1)
    >>> np.exp(proposal.log_density(np.log([[0.2, 0.5]]), np.log([[0.6, 0.9]]))).round(3).tolist()
    [0.2]
    """

    intensity: float
    mixing: float
    switch: int

    def log_density(
        self, unsteered: ArrayLike, steered: ArrayLike, *, lengths: ArrayLike | None = None
    ) -> FloatArray:
        """log q(y_i | x) in nats, shape (n,), from log-probs of tokens, both of shape (n, T).

        `steered` is at this proposal's intensity; `lengths` (n,) are numbers of tokens (default T),
        and what stands behind them is not read.
        """
        grid = log_densities(
            unsteered, steered, mixing=[self.mixing], switch=[self.switch], lengths=lengths
        )
        return grid.reshape(-1)


def log_densities(
    unsteered: ArrayLike,
    steered: ArrayLike,
    *,
    mixing: ArrayLike,
    switch: ArrayLike,
    lengths: ArrayLike | None = None,
) -> FloatArray:
    """log q_{a, t_switch}(y_i | x) over a grid, in nats, shape (A, S, n), one intensity.

    `unsteered` and `steered` have shape (n, T), the log-probability of each token given all before
    it; `mixing` (A,) in [0, 1]; `switch` (S,) integers >= 0, clipped to T. Raises `UsageError` for
    shapes that do not fit and values out of range.
    """
    base = check_token_log_probs(unsteered, lengths, "unsteered")
    hot = check_token_log_probs(steered, lengths, "steered")
    if hot.shape != base.shape:
        raise UsageError(f"steered must have the shape of unsteered, {base.shape}, not {hot.shape}")
    share = np.atleast_1d(np.asarray(mixing, dtype=np.float64))
    ends = np.atleast_1d(np.asarray(switch))
    if share.ndim != 1 or not ((share >= 0) & (share <= 1)).all():
        raise UsageError(f"mixing must lie in [0, 1], not {share.tolist()}")
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer) or (ends < 0).any():
        raise UsageError(f"switch must be whole numbers of tokens >= 0, not {ends.tolist()}")
    ends = np.minimum(ends, base.shape[1])
    after = PrefixSums(base).all_splits()[1][:, ends]
    result = np.empty((share.size, ends.size, len(base)))
    with np.errstate(divide="ignore"):
        log_share, log_rest = np.log(share), np.log1p(-share)
    for row, (log_a, log_b) in enumerate(zip(log_share, log_rest, strict=True)):
        mixed = np.logaddexp(log_a + hot, log_b + base)
        before = PrefixSums(mixed).all_splits()[0][:, ends]
        result[row] = (before + after).T
    return result
