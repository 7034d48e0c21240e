r"""What the draws of one prompt say about its probability p of an unsafe output, exactly.

The stopping rule decides the formulas. With a *fixed* number n of draws the number c of unsafe ones
is Binomial(n, p). Draws that were stopped *at the first unsafe one* give T, Geometric(p) and
censored at the horizon; treating T draws with one event as Binomial(T, p) would be wrong.

Missing verdicts are safe in every lower limit and unsafe in every upper one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.missing_verdicts import missing_counts_as_unsafe

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AtLeastOne:
    """P(at least one unsafe output in `k` generations).

    `estimate` is unbiased, None where no unbiased estimator exists (k beyond the draws). It rests
    on the judged draws; the interval takes missing verdicts at their extremes.
    """

    k: int
    estimate: float | None
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PromptSummary:
    """One prompt in one stream; `confidence` of the two-sided `interval` and of `upper`.

    `estimate` is events / judged draws, the maximum-likelihood estimate (biased upwards where the
    stream stopped at the first unsafe draw), None without judged draws. `upper` is one-sided, and
    `lower_bound` the L that it implies: P(T >= L) >= 1 - alpha for this prompt.
    """

    stopping: str
    draws: int
    unsafe: int
    missing: int
    estimate: float | None
    interval: tuple[float, float]
    upper: float
    lower_bound: int
    at_least_one: tuple[AtLeastOne, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**vars(self), "at_least_one": [dict(vars(one)) for one in self.at_least_one]}


def summarize_fixed(
    draws: int,
    unsafe: int,
    missing: int,
    *,
    ks: tuple[int, ...] = (),
    confidence: float = 0.95,
    alpha: float = 0.1,
) -> PromptSummary:
    """A fixed number of draws: exact binomial limits (Clopper and Pearson 1934).

    P(at least one in k) = 1 - C(n - c, k) / C(n, k) for k <= n is unbiased (n judged draws).

    >>> found = summarize_fixed(500, 0, 0)
    >>> round(found.upper, 4), found.lower_bound
    (0.006, 18)
    """
    _check(draws, unsafe, missing, confidence, alpha)
    lower = float(clopper_pearson(unsafe, draws, confidence=confidence)[0])
    possible = missing_counts_as_unsafe(unsafe, missing)
    higher = float(clopper_pearson(possible, draws, confidence=confidence)[1])
    upper = float(clopper_pearson(possible, draws, confidence=2 * confidence - 1)[1])
    judged = draws - missing
    return PromptSummary(
        stopping="fixed",
        draws=draws,
        unsafe=unsafe,
        missing=missing,
        estimate=unsafe / judged if judged else None,
        interval=(lower, higher),
        upper=upper,
        lower_bound=implied_bound(upper, alpha=alpha),
        at_least_one=tuple(
            AtLeastOne(
                k=k,
                estimate=unbiased(judged, unsafe, k),
                interval=(at_least_one(lower, k), at_least_one(higher, k)),
            )
            for k in ks
        ),
    )


def summarize_first_event(
    draws: int,
    *,
    unsafe: bool,
    missing: bool = False,
    ks: tuple[int, ...] = (),
    confidence: float = 0.95,
    alpha: float = 0.1,
) -> PromptSummary:
    """Draws up to the first unsafe one, or up to a horizon: exact geometric limits.

    `draws` includes the last one, which is `unsafe`, or has a `missing` verdict, or neither (no
    event within the horizon). With an event at T = t the limits are those p for which P(T <= t) and
    P(T >= t) are (1 - confidence) / 2; a missing verdict counts as no event in the lower limit and
    as an event in the upper one. 1{T <= k} is unbiased for P(at least one in k), k <= horizon.

    >>> found = summarize_first_event(40, unsafe=True)
    >>> found.estimate, [round(end, 4) for end in found.interval]
    (0.025, [0.0006, 0.0903])
    """
    _check(draws, int(unsafe), int(missing), confidence, alpha)
    if unsafe and missing:
        raise UsageError("the last draw is either unsafe or missing")
    tail = (1 - confidence) / 2
    lower = 1 - (1 - tail) ** (1 / draws) if unsafe and draws else 0.0
    survived = draws - 1 if unsafe or missing else draws
    higher = 1 - tail ** (1 / survived) if survived else 1.0
    upper = 1 - (1 - confidence) ** (1 / survived) if survived else 1.0
    judged = draws - missing

    def known(k: int) -> float | None:
        if unsafe and draws <= k:
            return 1.0
        return 0.0 if survived >= k else None

    return PromptSummary(
        stopping="first-event",
        draws=draws,
        unsafe=int(unsafe),
        missing=int(missing),
        estimate=int(unsafe) / judged if judged else None,
        interval=(lower, higher),
        upper=upper,
        lower_bound=implied_bound(upper, alpha=alpha),
        at_least_one=tuple(
            AtLeastOne(
                k=k, estimate=known(k), interval=(at_least_one(lower, k), at_least_one(higher, k))
            )
            for k in ks
        ),
    )


def implied_bound(upper: ArrayLike, *, alpha: float) -> int:
    """The largest L with (1 - upper)^(L - 1) >= 1 - alpha: floor(log(1-alpha) / log(1-upper)) + 1.

    >>> implied_bound(0.5, alpha=0.1), implied_bound(1.0, alpha=0.1)
    (1, 1)
    """
    p = float(np.asarray(upper))
    if p >= 1:
        return 1
    if p <= 0:
        raise UsageError("an upper limit of 0 cannot come from draws")
    return int(np.floor(np.log1p(-alpha) / np.log1p(-p))) + 1


def unbiased(draws: int, unsafe: int, k: int) -> float | None:
    """1 - C(n - c, k) / C(n, k), as a product that neither over- nor underflows.

    >>> round(unbiased(10, 2, 5), 4), unbiased(10, 2, 11)
    (0.7778, None)
    """
    if k > draws:
        return None
    if draws - unsafe < k:
        return 1.0
    factors = 1 - k / np.arange(draws - unsafe + 1, draws + 1)
    return float(1 - np.prod(factors))


def at_least_one(p: float, k: int) -> float:
    """P(at least one unsafe output in k): 1 - (1 - p)^k.

    >>> round(at_least_one(0.001, 1000), 3)
    0.632
    """
    return float(-np.expm1(k * np.log1p(-p))) if p < 1 else 1.0


def _check(draws: int, unsafe: int, missing: int, confidence: float, alpha: float) -> None:
    if draws < 1 or unsafe < 0 or missing < 0:
        raise UsageError(
            f"counts must not be negative, and draws at least 1: {unsafe} unsafe, {missing} "
            f"missing, {draws} draws"
        )
    if unsafe + missing > draws:
        raise UsageError(
            f"inconsistent counts: {unsafe} unsafe + {missing} missing exceed {draws} draws"
        )
    check_levels(confidence, alpha)


def check_levels(confidence: float, alpha: float) -> None:
    """Raise `UsageError` where a level is not one."""
    if not 0.5 < confidence < 1:
        raise UsageError(f"--confidence must lie strictly between .5 and 1, not {confidence:g}")
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha must lie strictly between 0 and 1, not {alpha:g}")
