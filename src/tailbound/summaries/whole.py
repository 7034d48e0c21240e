"""A set of prompts as a whole: for these very prompts, and for the population they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tailbound.intervals import betting_lower, betting_upper, clopper_pearson
from tailbound.summaries.counts import PromptSummary, unbiased


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """The mean over prompts of P(unsafe), or of P(at least one unsafe in `k`) where `k` > 1.

    `mean` is None where a prompt has no unbiased estimate. `interval` takes the clusters (prompts,
    or their groups) as independent draws from a population and is finite-sample (betting on cluster
    means in [0, 1], missing verdicts at their extremes). `these` holds for exactly these prompts:
    Clopper and Pearson on the pooled draws, where all prompts have the same fixed number of them;
    conservative, because a sum of unequal Bernoulli variables varies less than a binomial one
    (Hoeffding 1956).
    """

    k: int
    mean: float | None
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

    Prompts whose first draw never came are left out. For streams that stop at the first event, k =
    1 is P(T = 1): whether the very first draw was unsafe.
    """
    ks = [one.k for one in summaries[0].at_least_one if one.k > 1] if summaries else []
    return tuple(_one(summaries, units, k, confidence) for k in (1, *ks))


def _one(
    summaries: Sequence[PromptSummary], units: Sequence[str], k: int, confidence: float
) -> SetSummary:
    low, high = zip(*(_extremes(summary, k) for summary in summaries), strict=True)
    names = sorted(set(units))
    places = np.array([names.index(unit) for unit in units])
    sizes = np.bincount(places)
    # equal weight for every cluster, as for independent draws of clusters
    lower_means = np.bincount(places, low) / sizes
    upper_means = np.bincount(places, high) / sizes
    each = (1 + confidence) / 2
    interval = (
        float(betting_lower(lower_means, confidence=each)),
        float(betting_upper(upper_means, bound=1.0, confidence=each)),
    )
    known = np.array(low) == np.array(high)
    return SetSummary(
        k=k,
        mean=float(lower_means.mean()) if known.all() else None,
        interval=interval,
        these=_these(summaries, confidence) if k == 1 else None,
        clusters=len(names),
        prompts=len(summaries),
    )


def _extremes(summary: PromptSummary, k: int) -> tuple[float, float]:
    """Unbiased estimates of P(at least one in k) with what is unknown taken as safe, as unsafe."""
    if k == 1 and summary.stopping == "fixed":
        n, c, m = summary.draws, summary.unsafe, summary.missing
        return c / n, (c + m) / n
    if k == 1:
        first = float(summary.unsafe and summary.draws == 1)
        return first, max(first, float(summary.missing and summary.draws == 1))
    estimate = next(one.estimate for one in summary.at_least_one if one.k == k)
    if estimate is None:
        return 0.0, 1.0
    if summary.missing and summary.stopping == "fixed":
        n, c, m = summary.draws, summary.unsafe, summary.missing
        return _with(n, c, k), _with(n, c + m, k)
    return estimate, estimate


def _with(draws: int, unsafe: int, k: int) -> float:
    found = unbiased(draws, unsafe, k)
    assert found is not None
    return found


def _these(summaries: Sequence[PromptSummary], confidence: float) -> tuple[float, float] | None:
    sizes = {summary.draws for summary in summaries}
    if len(sizes) > 1 or any(summary.stopping != "fixed" for summary in summaries):
        return None
    draws = sum(summary.draws for summary in summaries)
    unsafe = sum(summary.unsafe for summary in summaries)
    missing = sum(summary.missing for summary in summaries)
    return (
        float(clopper_pearson(unsafe, draws, confidence=confidence)[0]),
        float(clopper_pearson(unsafe + missing, draws, confidence=confidence)[1]),
    )
