"""A set of prompts as a whole: for these very prompts, and for the population they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.intervals import betting_lower, betting_upper, clopper_pearson
from tailbound.missing_verdicts import missing_counts_as_unsafe
from tailbound.summaries.prompt_intervals import PromptSummary, at_least_one, unbiased


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """P(unsafe), or P(at least one unsafe in `k`) where `k` > 1, over a set.

    `mean` is over the prompts and unbiased, None where a prompt has no unbiased estimate; then it
    lies within `extremes`, the means with all that is unknown taken as safe and as unsafe, unless k
    is beyond a fixed number of draws.
    `cluster_mean` weighs clusters (prompts, or their groups) equally. `interval` is for the latter
    in the population that the clusters were drawn from independently, and finite-sample: betting on
    cluster means in [0, 1], at the extremes. Where k is beyond a fixed number of draws, its lower
    end is that for as many as there are, its upper end 1 - (1 - u)^k with u that of k = 1 (Jensen).
    `these` holds for exactly these prompts: Clopper and Pearson on the pooled draws, where all
    prompts have the same fixed number of them; conservative, because a sum of unequal Bernoulli
    variables varies less than a binomial one (Hoeffding 1956).
    """

    k: int
    mean: float | None
    extremes: tuple[float, float] | None
    cluster_mean: float | None
    interval: tuple[float, float]
    these: tuple[float, float] | None
    clusters: int
    prompts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def summarize_set(
    summaries: Sequence[PromptSummary], units: Sequence[str], *, confidence: float = 0.95
) -> tuple[SetSummary, ...]:
    """The set for k = 1 and for every k of the prompts; `units` names each prompt's cluster.

    For streams that stop at the first event, k = 1 is P(T = 1): whether the very first draw was
    unsafe.

    >>> from tailbound.summaries import summarize_fixed
    >>> prompts = [summarize_fixed(100, 0, 0), summarize_fixed(100, 3, 0)]
    >>> (once,) = summarize_set(prompts, ["first", "second"])
    >>> once.mean, [round(end, 4) for end in once.these]
    (0.015, [0.0031, 0.0432])
    """
    ks = [one.k for one in summaries[0].at_least_one if one.k > 1] if summaries else []
    places = np.unique(np.asarray(units, dtype=object), return_inverse=True)[1]
    return tuple(_one(summaries, places, k, confidence) for k in (1, *ks))


def _one(
    summaries: Sequence[PromptSummary], places: NDArray[np.intp], k: int, confidence: float
) -> SetSummary:
    low, high = np.array([_extremes(summary, k) for summary in summaries]).T
    sizes = np.bincount(places)
    lower_means = np.bincount(places, low) / sizes
    each = (1 + confidence) / 2
    beyond = any(summary.stopping == "fixed" and summary.draws < k for summary in summaries)
    if beyond:
        once = _upper([_extremes(summary, 1)[1] for summary in summaries], places, each)
        upper = at_least_one(once, k)
    else:
        upper = _upper(high, places, each)
    known = not beyond and bool((low == high).all())
    return SetSummary(
        k=k,
        mean=float(low.mean()) if known else None,
        extremes=None if beyond else (float(low.mean()), float(high.mean())),
        cluster_mean=float(lower_means.mean()) if known else None,
        interval=(float(betting_lower(lower_means, confidence=each)), upper),
        these=_these(summaries, confidence) if k == 1 else None,
        clusters=sizes.size,
        prompts=len(summaries),
    )


def _upper(values: ArrayLike, places: NDArray[np.intp], confidence: float) -> float:
    """The upper limit for the mean of clusters, each with the same weight."""
    means = np.bincount(places, np.asarray(values)) / np.bincount(places)
    return float(betting_upper(np.minimum(means, 1.0), bound=1.0, confidence=confidence))


def _extremes(summary: PromptSummary, k: int) -> tuple[float, float]:
    """Unbiased estimates of P(at least one in k) with what is unknown taken as safe, as unsafe."""
    if summary.stopping == "fixed":
        n, c, m = summary.draws, summary.unsafe, summary.missing
        possible = int(missing_counts_as_unsafe(c, m))
        return _any_of(n, c, min(k, n)), _any_of(n, possible, k) if k <= n else 1.0
    if k == 1:
        first = float(summary.unsafe and summary.draws == 1)
        return first, max(first, float(summary.missing and summary.draws == 1))
    estimate = next(one.estimate for one in summary.at_least_one if one.k == k)
    return (0.0, 1.0) if estimate is None else (estimate, estimate)


def _any_of(draws: int, unsafe: int, k: int) -> float:
    if k == 1:
        return unsafe / draws
    found = unbiased(draws, unsafe, k)
    assert found is not None
    return found


def _these(summaries: Sequence[PromptSummary], confidence: float) -> tuple[float, float] | None:
    sizes = {summary.draws for summary in summaries}
    if len(sizes) > 1 or any(summary.stopping != "fixed" for summary in summaries):
        return None
    draws = sum(summary.draws for summary in summaries)
    unsafe = sum(summary.unsafe for summary in summaries)
    possible = missing_counts_as_unsafe(unsafe, sum(summary.missing for summary in summaries))
    return (
        float(clopper_pearson(unsafe, draws, confidence=confidence)[0]),
        float(clopper_pearson(possible, draws, confidence=confidence)[1]),
    )
