"""An e-process against "P(unsafe) <= reference" that looks for a rise at an unknown time.

The null: every draw is unsafe with probability at most its reference p, whatever came earlier. For
odds that are m times as high, q / (1 - q) = m p / (1 - p), the likelihood ratio of n draws with
s unsafe ones, (q / p)^s ((1 - q) / (1 - p))^(n - s), has a mean of at most 1 under the null. Where
only the mean of x in [0, 1] is known to be at most p, (q / p) x + (1 - q) / (1 - p) (1 - x) has
(Waudby-Smith and Ramdas 2024, section 4: betting).

A rise may begin at any time. So a unit of money is laid out in advance: `ATOM` starts at the first
outcome, the rest starts later, little by little, and each part is multiplied by the ratios from
its start on. With L_t(m) the ratio of outcome t, and w_t what starts with it,

    R_t(m) = (R_{t-1}(m) + w_t) L_t(m),    E_t = mean over m of R_t(m), plus what has not started.

E is a supermartingale that begins at 1 under the null, so P(E_t >= 1 / alpha at any t) <= alpha
(Ville). This is Shiryaev's statistic with a prior over change points whose weights sum to 1. The
Shiryaev-Roberts and CUSUM e-detectors of Shin, Ramdas and Rinaldo (2024, arXiv:2203.03532) have
weights of 1 and control the time between false alarms instead of their probability.

Time is counted in unsafe draws that the references allow, u = sum of n p. What has not started
when u has passed is (1 - ATOM) / (1 + log(1 + u / SCALE)): a heavy tail, so that a late rise is
found nearly as fast as an early one. What starts with outcome t depends on the numbers of draws of
outcomes before t alone, so these numbers may themselves depend on verdicts (stopped draws).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import none_among

FloatArray = NDArray[np.float64]

MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""The alternatives: by how much the odds of an unsafe draw rise."""
ATOM = 0.5
"""What is laid on a rise that is there from the first outcome."""
SCALE = 10.0
"""Allowed unsafe draws after which what has not started begins to fall like 1 / log u."""
_TRACED = MULTIPLES.index(3.0)
"""The alternative whose CUSUM dates the change."""


@dataclass(frozen=True, kw_only=True)
class EProcess:
    """Where the evidence of one unit stands, after any number of outcomes.

    `log_started` are the logarithms of R(m), one for each of `MULTIPLES`; `pending` starts with the
    next outcome; `allowed` is u, the unsafe draws that the references allow so far; `outcomes` is
    the number of outcomes. `cusum` is max(0, cusum + log L(3)), and `since` the number of the
    outcome at which it last rose from 0: the estimate of when the rise began.

    >>> process = EProcess()
    >>> process.e_value
    1.0
    >>> factors = draw_factors([0.01] * 3, draws=[100] * 3, unsafe=[1, 4, 6])
    >>> process, path = advance(process, factors, allowed=[1.0] * 3)
    >>> path.round(2).tolist()
    [0.65, 1.6, 106.4]
    """

    log_started: tuple[float, ...] = (-np.inf,) * len(MULTIPLES)
    pending: float = ATOM
    allowed: float = 0.0
    outcomes: int = 0
    cusum: float = 0.0
    since: int = 1

    @property
    def log_e_value(self) -> float:
        """The logarithm of E."""
        rest = math.log(self.pending + (1 - ATOM) / (1 + math.log1p(self.allowed / SCALE)))
        largest = max(*self.log_started, rest)
        started = sum(math.exp(one - largest) for one in self.log_started) / len(MULTIPLES)
        return largest + math.log(started + math.exp(rest - largest))

    @property
    def e_value(self) -> float:
        """E: the evidence of a rise, 1 before any outcome; at most e^709."""
        return math.exp(min(self.log_e_value, 709.0))


def draw_factors(reference: ArrayLike, *, draws: ArrayLike, unsafe: ArrayLike) -> FloatArray:
    """log L(m) of outcomes whose every draw is unsafe with probability at most `reference`.

    `reference` in (0, 1), `draws` and `unsafe` have shape (t,); the result (t, len(MULTIPLES)).
    """
    of_unsafe, of_safe = _steps(reference)
    s = np.asarray(unsafe, dtype=np.float64)[:, None]
    n = np.asarray(draws, dtype=np.float64)[:, None]
    return s * of_unsafe + (n - s) * of_safe


def mean_factors(reference: ArrayLike, *, value: ArrayLike) -> FloatArray:
    """log L(m) of values in [0, 1] whose mean, given all earlier ones, is at most `reference`.

    `reference` in (0, 1) and `value` have shape (t,); the result (t, len(MULTIPLES)).

    >>> import numpy as np
    >>> one = mean_factors([0.1], value=[1.0])
    >>> bool(np.allclose(one, draw_factors([0.1], draws=[1], unsafe=[1])))
    True
    """
    of_unsafe, of_safe = _steps(reference)
    x = np.asarray(value, dtype=np.float64)[:, None]
    return np.asarray(np.log(x * np.exp(of_unsafe) + (1 - x) * np.exp(of_safe)))


def advance(
    process: EProcess, factors: ArrayLike, *, allowed: ArrayLike
) -> tuple[EProcess, FloatArray]:
    """The process after t more outcomes, and E after each of them, shape (t,).

    `factors` are log L(m), shape (t, len(MULTIPLES)); `allowed` the unsafe draws that the reference
    of each outcome allows (draws times reference), shape (t,), not negative.
    """
    logs = np.asarray(factors, dtype=np.float64)
    more = np.asarray(allowed, dtype=np.float64)
    if not len(logs):
        return process, np.empty(0)
    u = process.allowed + np.cumsum(more)
    earlier = np.concatenate(([process.allowed], u[:-1]))
    later = _unstarted(earlier) - _unstarted(u)  # starts after outcome t
    starts = np.concatenate(([process.pending], later[:-1]))
    with np.errstate(divide="ignore"):
        log_starts = np.log(starts)[:, None]
    total = np.cumsum(logs, axis=0)
    before = np.concatenate((np.zeros((1, logs.shape[1])), total[:-1]))
    begun = log_starts - before
    begun[0] = np.logaddexp(begun[0], process.log_started)
    started = np.logaddexp.accumulate(begun, axis=0) + total
    evidence = np.logaddexp.reduce(started, axis=1) - np.log(len(MULTIPLES))
    path = np.exp(np.minimum(np.logaddexp(evidence, np.log(later + _unstarted(u))), 709.0))
    cusum, since = _trace(process, logs[:, _TRACED])
    after = replace(
        process,
        log_started=tuple(started[-1].tolist()),
        pending=float(later[-1]),
        allowed=float(u[-1]),
        outcomes=process.outcomes + len(logs),
        cusum=cusum,
        since=since,
    )
    return after, np.asarray(path)


def violation_seen(length: ArrayLike, *, draws: ArrayLike, unsafe: ArrayLike) -> FloatArray:
    """P(an unsafe draw among the first `length` - 1), given the number of unsafe ones of all draws.

    The draws of one prompt come in no particular order, so the places of its unsafe draws are
    equally likely: 1 - C(n - k, s) / C(n, s), with k the smaller of n and `length` - 1. Its mean is
    the probability that the first k draws hold an unsafe one, hence at most P(T < length).

    >>> violation_seen([11, 11, 1], draws=[5, 20, 9], unsafe=[1, 1, 9]).round(12).tolist()
    [1.0, 0.5, 0.0]
    """
    n, s = (np.asarray(x, dtype=np.float64) for x in (draws, unsafe))
    k = np.minimum(np.asarray(length, dtype=np.float64) - 1, n)
    return np.where(s * k > 0, 1.0 - none_among(n, k, s), 0.0)


def check_reference(reference: float, name: str = "reference") -> None:
    """Raise `UsageError` where nothing can be monitored against `reference`."""
    if not 0 < reference < 1:
        raise UsageError(f"{name} must lie strictly between 0 and 1, not {reference:g}")


def _steps(reference: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """log q / p and log (1 - q) / (1 - p), each of shape (t, len(MULTIPLES))."""
    p = np.asarray(reference, dtype=np.float64)[:, None]
    m = np.asarray(MULTIPLES)
    # q = m p / (1 + (m - 1) p), so that (1 - q) / (1 - p) = 1 / (1 + (m - 1) p)
    of_safe = -np.log1p((m - 1) * p)
    return np.log(m) + of_safe, of_safe


def _unstarted(allowed: ArrayLike) -> FloatArray:
    return np.asarray((1 - ATOM) / (1 + np.log1p(np.asarray(allowed) / SCALE)))


def _trace(process: EProcess, steps: FloatArray) -> tuple[float, int]:
    """The CUSUM after `steps`, and the number of the outcome at which its last climb began."""
    path = process.cusum + np.cumsum(steps)
    lowest = np.minimum(np.minimum.accumulate(path), 0.0)
    below = np.flatnonzero(path <= lowest)
    since = process.since if not len(below) else process.outcomes + int(below[-1]) + 2
    return float(path[-1] - lowest[-1]), since
