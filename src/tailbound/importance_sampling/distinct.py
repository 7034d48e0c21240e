"""A lower bound without chance: the exact probabilities of the distinct unsafe replies drawn."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError

#: Part of an exact probability that rounding in log-densities of single precision may take away.
ROUNDING = 1e-3


def distinct_probability(
    replies: Sequence[Hashable], log_target: ArrayLike, harm: ArrayLike
) -> float:
    """The probability of the distinct unsafe replies that were drawn, less what rounding may take.

    `replies` (n,) tell them apart, `log_target` (n,) is log p of each in nats, NaN for safe ones
    that were not scored, `harm` (n,) in [0, 1], NaN counted as 0. A reply with several verdicts
    counts with the least of them. Never above E_p[h] where verdicts are a function of the reply.

    >>> round(distinct_probability(["a", "a", "b"], np.log([0.1, 0.1, 0.2]), [1, 1, 0]), 4)
    0.0999
    """
    log_p = np.asarray(log_target, dtype=np.float64)
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    if not len(replies) == log_p.size == h.size:
        raise UsageError("replies, log_target and harm must have one value per draw each")
    found: dict[Hashable, tuple[float, float]] = {}
    for reply, log_one, harm_one in zip(replies, log_p.tolist(), h.tolist(), strict=True):
        before = found.get(reply)
        if before is not None:
            found[reply] = (before[0], min(before[1], harm_one))
        elif harm_one > 0:
            found[reply] = (log_one, harm_one)
    total = math.fsum(math.exp(log_one) * harm_one for log_one, harm_one in found.values())
    return min(1.0, total * (1 - ROUNDING))
