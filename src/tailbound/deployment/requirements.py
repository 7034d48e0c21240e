"""Whether a quantity is shown to meet a limit, and about how many more observations would tell.

A quantity is known by an estimate and the two ends of its interval. A requirement `value <= limit`
is met only where the upper end is no larger, failed only where the lower end is larger, and cannot
be told otherwise; `>=` likewise. So a false requirement is called met only where the interval
misses the value on that side: in at most (1 - confidence) / 2 of all cases, for a two-sided
interval of equal tails. Of several requirements all must be met: if one is false, all are called
met in at most that share of cases, however many there are (an intersection-union test: Berger,
1982, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24, section 2).
"""

from __future__ import annotations

import math
from typing import Literal

Relation = Literal["<=", ">="]
Outcome = Literal["met", "failed", "cannot tell"]

MOST = 10**12
"""Numbers beyond this are no advice."""


def decide(relation: Relation, limit: float, low: float | None, high: float | None) -> Outcome:
    """What the ends of an interval say of `value <= limit` or `value >= limit`.

    An end that is None or NaN is not known, and shows nothing.

    >>> decide("<=", 0.01, 0.001, 0.008), decide("<=", 0.01, 0.02, 0.05)
    ('met', 'failed')
    >>> decide("<=", 0.01, 0.001, 0.05), decide(">=", 0.9, 0.93, None)
    ('cannot tell', 'met')
    """
    shows, contradicts = (high, low) if relation == "<=" else (low, high)
    sign = 1 if relation == "<=" else -1
    if shows is not None and sign * shows <= sign * limit:
        return "met"
    if contradicts is not None and sign * contradicts > sign * limit:
        return "failed"
    return "cannot tell"


def more_needed(
    limit: float,
    *,
    estimate: float | None,
    low: float | None,
    high: float | None,
    n: int,
    log: bool = False,
) -> int | None:
    """About how many more than `n` observations until the interval leaves the limit out.

    A guess: it takes the estimate as the truth, and lets the interval shrink with the square root
    of the number, on the log scale with `log` (risks). Where nothing was seen (an estimate of 0 or
    1), ends move with 1 / number, as those of Clopper and Pearson do. With an estimate on the wrong
    side of the limit, that is about when it will be shown not to be met. None where no number
    would do or it is beyond 10^12.

    >>> more_needed(0.01, estimate=0.0, low=0.0, high=0.03, n=100)
    200
    >>> more_needed(0.9, estimate=0.92, low=0.88, high=0.95, n=400)
    1200
    >>> more_needed(0.92, estimate=0.92, low=0.88, high=0.95, n=400) is None
    True
    """
    if estimate is None or math.isnan(estimate):
        return None
    end = high if limit > estimate else low
    if end is None or math.isnan(end) or limit == estimate:
        return None
    if estimate in (0.0, 1.0) and abs(limit - estimate) < 1:
        factor = abs(end - estimate) / abs(limit - estimate)
    else:
        reach, distance = end - estimate, limit - estimate
        if log and min(estimate, end, limit) > 0:
            reach, distance = math.log(end / estimate), math.log(limit / estimate)
        if reach * distance <= 0:
            return None
        factor = (reach / distance) ** 2
    more = n * (factor - 1)
    return max(1, math.ceil(more - 1e-9 * n)) if more <= MOST else None
