"""A lower bound without chance: the exact probabilities of the distinct unsafe replies drawn."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tailbound.errors import UsageError
from tailbound.missing_verdicts import missing_counts_as_unsafe

#: Part of an exact probability that rounding in log-densities of single precision may take away.
ROUNDING = 1e-3

#: Chance that a right bound is taken for one that the draws contradict.
CONTRADICTION = 1e-6


def distinct_probability(
    replies: Sequence[Hashable], log_target: ArrayLike, harm: ArrayLike
) -> float:
    """The probability of the distinct unsafe replies that were drawn, less what rounding may take.

    `replies` (n,) tell them apart, `log_target` (n,) is log p of each in nats, NaN where it is not
    known, `harm` (n,) in [0, 1], NaN counted as 0. A reply with several verdicts or probabilities
    counts with the least of them, one of unknown probability with 0. Never above E_p[h] where
    verdicts are a function of the reply.

    >>> round(distinct_probability(["a", "a", "b"], np.log([0.1, 0.1, 0.2]), [1, 1, 0]), 4)
    0.0999
    """
    log_p = np.asarray(log_target, dtype=np.float64)
    h = np.nan_to_num(np.asarray(harm, dtype=np.float64), nan=0.0)
    if not len(replies) == log_p.size == h.size:
        raise UsageError("replies, log_target and harm must have one value per draw each")
    found: dict[Hashable, tuple[float, float]] = {}
    for reply, log_one, harm_one in zip(replies, log_p.tolist(), h.tolist(), strict=True):
        log_least, harm_least = found.get(reply, (math.nan, math.inf))
        known = log_least if math.isnan(log_one) else log_one
        least = known if math.isnan(log_least) else min(log_least, known)
        found[reply] = (least, min(harm_least, harm_one))
    terms = (
        math.exp(log_one) * harm_one
        for log_one, harm_one in found.values()
        if harm_one > 0 and not math.isnan(log_one)
    )
    return min(1.0, math.fsum(terms) * (1 - ROUNDING))


def contradicted(replies: Sequence[Hashable], log_target: ArrayLike, harm: ArrayLike) -> bool:
    """Whether draws of the target itself refute the log-probabilities that came with them.

    Arguments are as in `distinct_probability`. The replies with harm above 0 are then at least as
    likely as the distinct ones among them: if so few draws are as have a chance of less than
    `CONTRADICTION` at that (Clopper-Pearson; missing verdicts count as harm), the log-probabilities
    are too high. Right ones are refuted with at most that chance, although they are those of the
    draws.

    >>> contradicted(["a"] * 20 + ["b"] * 80, np.log([0.9] * 20 + [0.1] * 80), [1] * 20 + [0] * 80)
    True
    """
    from scipy.special import bdtr

    h = np.asarray(harm, dtype=np.float64)
    unsafe = np.where(h > 0, 1.0, h)
    least = distinct_probability(replies, log_target, unsafe)
    hits = missing_counts_as_unsafe(int((unsafe == 1).sum()), int(np.isnan(h).sum()))
    return bool(bdtr(hits, h.size, least) < CONTRADICTION)
