"""By how much the mean over all prompts changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import betting_lower

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MeanChange:
    """The mean of A, of B, and what lies between them; clusters count equally.

    `interval` is that of the `difference` B - A, asymptotic (Student's t over clusters), and
    `finite_sample` holds for any number of clusters drawn independently, None where values are not
    known to lie in [0, 1]. `ratio` is B / A with an asymptotic interval on the log scale, None
    where either mean is 0. All are two-sided at `confidence`. With missing verdicts, `difference`
    and `ratio` are None and the intervals run from the smallest to the largest change that they
    leave possible; `a` and `b` then count them as safe. `effective` is the number of clusters that
    the unsafe outputs come from, (sum c)^2 / sum c^2 of c = A + B, 0 where there are none: the
    interval of the ratio is good for a few tens.
    """

    a: float
    b: float
    difference: float | None
    interval: tuple[float, float] | None
    finite_sample: tuple[float, float] | None
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    clusters: int
    effective: float
    confidence: float


def mean_change(
    a: ArrayLike,
    b: ArrayLike,
    units: Sequence[str],
    *,
    most_a: ArrayLike | None = None,
    most_b: ArrayLike | None = None,
    bounded: bool = True,
    confidence: float = 0.95,
) -> MeanChange:
    """The change of the mean from unbiased estimates `a` and `b` of the same m prompts.

    `units` names the cluster of each prompt. `most_a` and `most_b` are the estimates with missing
    verdicts taken as unsafe (default: none is missing). `bounded` says that all lie in [0, 1]; then
    there is a finite-sample interval too, by betting on (1 + d) / 2 for cluster differences d. It
    cannot be narrower than about 3.7 / clusters to either side: nothing rules out a rare cluster
    that changed fully. Raises `UsageError` for shapes that differ and numbers that cannot be.

    >>> units = [str(i) for i in range(400)]
    >>> rng = np.random.default_rng(0)
    >>> before, after = rng.binomial(100, 0.01, 400) / 100, rng.binomial(100, 0.03, 400) / 100
    >>> found = mean_change(before, after, units)
    >>> found.interval[0] < 0.02 < found.interval[1]
    True
    >>> found.finite_sample[0] > 0, round(found.ratio)
    (True, 3)
    """
    low_a, low_b = (np.asarray(one, dtype=np.float64) for one in (a, b))
    high_a = low_a if most_a is None else np.asarray(most_a, dtype=np.float64)
    high_b = low_b if most_b is None else np.asarray(most_b, dtype=np.float64)
    if {one.shape for one in (low_a, low_b, high_a, high_b)} != {(len(units),)} or not units:
        raise UsageError("give one estimate of A, one of B and one cluster for each prompt")
    every = np.stack([low_a, low_b, high_a, high_b])
    if not np.isfinite(every).all() or (every < 0).any() or (bounded and (every > 1).any()):
        raise UsageError("estimates must be finite and at least 0, and bounded ones at most 1")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    low_a, low_b, high_a, high_b = (_by_cluster(one, units) for one in every)
    known = bool((low_a == high_a).all() and (low_b == high_b).all())
    smallest, largest = low_b - high_a, high_b - low_a
    quantile = _t_quantile(confidence, low_a.size - 1)
    ends = None
    if quantile is not None:
        ends = (_end(smallest, -quantile), _end(largest, quantile))
    finite = None
    if bounded:
        each = (1 + confidence) / 2
        finite = (
            2 * float(betting_lower((1 + smallest) / 2, confidence=each)) - 1,
            1 - 2 * float(betting_lower((1 - largest) / 2, confidence=each)),
        )
    ratio, ratio_ends = _ratio(low_a, low_b, quantile) if known else (None, None)
    return MeanChange(
        a=float(low_a.mean()),
        b=float(low_b.mean()),
        difference=float(smallest.mean()) if known else None,
        interval=ends,
        finite_sample=finite,
        ratio=ratio,
        ratio_interval=ratio_ends,
        clusters=low_a.size,
        effective=_effective(low_a + low_b),
        confidence=confidence,
    )


def geometric_ratio(
    a: ArrayLike, b: ArrayLike, units: Sequence[str], *, confidence: float = 0.95
) -> tuple[float, tuple[float, float] | None]:
    """The geometric mean of b / a, clusters counting equally, and its asymptotic interval.

    `a` and `b` are positive, one for each prompt; `units` names the cluster of each. The interval
    is Student's t over clusters on the log scale, None for a single cluster. Raises `UsageError`
    for other values.

    >>> ratio, ends = geometric_ratio([10, 20, 40], [20, 20, 80], ["x", "y", "z"])
    >>> round(ratio, 3), [round(end, 2) for end in ends]
    (1.587, [0.59, 4.29])
    """
    first, second = (np.asarray(one, dtype=np.float64) for one in (a, b))
    if first.shape != second.shape or first.shape != (len(units),) or not units:
        raise UsageError("give one value of A, one of B and one cluster for each prompt")
    if not ((first > 0) & (second > 0) & np.isfinite(first) & np.isfinite(second)).all():
        raise UsageError("ratios need values that are positive and finite")
    logs = _by_cluster(np.log(second / first), units)
    ratio = float(np.exp(logs.mean()))
    quantile = _t_quantile(confidence, logs.size - 1)
    if quantile is None:
        return ratio, None
    return ratio, (float(np.exp(_end(logs, -quantile))), float(np.exp(_end(logs, quantile))))


def draw_by_draw(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """An interval for the mean of B - A over *these* prompts that holds at every look at once.

    `a` and `b` are as for `paired_e_values`, shape (m, n). Rounds in which every prompt has a draw
    on both sides count: each brings m differences whose mean is that of the prompts, and betting on
    all of them holds at the ends of all rounds at once (`tailbound.intervals.betting_lower`). A
    missing verdict is taken as safe for one end and as unsafe for the other. None without a
    complete round. Draws of a prompt, and prompts, must be independent.

    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.random((50, 200)) < 0.01, rng.random((50, 200)) < 0.03
    >>> low, high = draw_by_draw(a.astype(float), b.astype(float))
    >>> 0 < low < 0.02 < high
    True
    """
    first, second = (np.atleast_2d(np.asarray(one, dtype=np.float64)) for one in (a, b))
    if first.shape != second.shape:
        raise UsageError("the draws of A and B must come in pairs: the same shape (m, n) for both")
    whole = np.logical_and.accumulate(((first != -1) & (second != -1)).all(axis=0))
    first, second = first[:, whole], second[:, whole]
    if first.size == 0:
        return None
    each = (1 + confidence) / 2

    def filled(values: FloatArray, missing: float) -> FloatArray:
        return np.where(np.isnan(values), missing, values)

    def lowest(differences: FloatArray) -> float:
        values, times = np.unique((1 + differences) / 2, return_counts=True)
        return 2 * float(betting_lower(values, confidence=each, counts=times)) - 1

    smallest = filled(second, 0.0) - filled(first, 1.0)
    largest = filled(second, 1.0) - filled(first, 0.0)
    return lowest(smallest), -lowest(-largest)


def _by_cluster(values: FloatArray, units: Sequence[str]) -> FloatArray:
    """The mean of `values` (m,) over each cluster, shape (clusters,)."""
    places = np.unique(np.asarray(units, dtype=object), return_inverse=True)[1]
    return np.asarray(np.bincount(places, values) / np.bincount(places), dtype=np.float64)


def _effective(values: FloatArray) -> float:
    """Kish's effective number of values, 0 where all are 0."""
    return float(values.sum() ** 2 / np.square(values).sum()) if values.any() else 0.0


def _t_quantile(confidence: float, freedom: int) -> float | None:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2)) if freedom >= 1 else None


def _end(values: FloatArray, quantile: float) -> float:
    return float(values.mean() + quantile * values.std(ddof=1) / np.sqrt(values.size))


def _ratio(
    a: FloatArray, b: FloatArray, quantile: float | None
) -> tuple[float | None, tuple[float, float] | None]:
    mean_a, mean_b = a.mean(), b.mean()
    if mean_a == 0 or mean_b == 0:
        return None, None
    ratio = float(mean_b / mean_a)
    if quantile is None:
        return ratio, None
    influence = b / mean_b - a / mean_a
    spread = float(quantile * influence.std(ddof=1) / np.sqrt(a.size))
    return ratio, (ratio * float(np.exp(-spread)), ratio * float(np.exp(spread)))
