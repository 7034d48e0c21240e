"""How a bound does on prompts that it has not seen: coverage, overall and by stratum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Share of test prompts with T >= L, in one stratum.

    A prompt that was censored before L - 1 draws is `unresolved`: it counts as not covered in
    `lower` and as covered in `upper`. `interval` is the Clopper-Pearson interval, from the lower
    end of `lower` to the upper end of `upper`. None where there are no prompts.
    """

    name: str
    prompts: int
    covered: int
    missed: int
    unresolved: int
    lower: float | None
    upper: float | None
    interval: tuple[float, float] | None
    median_bound: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Coverage on the test split, overall, by bin of p_hat and by group.

    The overall interval has the `confidence`. Those of the strata hold all at once with that
    confidence: each has `stratum_confidence` by itself, 1 - (1 - confidence) / strata (Bonferroni).
    `log_mean_bound` is the geometric mean of L; `share_at_one` and `share_at_cap` are the shares of
    prompts whose bound says nothing, and whose bound the cap cut.
    """

    confidence: float
    stratum_confidence: float
    overall: Coverage
    by_p_hat: tuple[Coverage, ...]
    by_group: tuple[Coverage, ...]
    median_bound: float
    log_mean_bound: float
    share_at_one: float
    share_at_cap: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def evaluate(
    bounds: ArrayLike,
    first_unsafe: ArrayLike,
    followed: ArrayLike,
    *,
    p_hat: ArrayLike,
    cap: ArrayLike,
    groups: Sequence[str | None] | None = None,
    bins: int = 5,
    groups_by_p_hat: bool = False,
    confidence: float = 0.95,
) -> Evaluation:
    """Coverage of `bounds` (L, shape (n,)) on prompts that were followed after the bound was made.

    `first_unsafe` is the index of the first unsafe draw (0: none seen), `followed` the number of
    draws that were looked at, `cap` the longest bound possible, one number or shape (n,). Strata:
    `bins` of equal size by p_hat (0: none), and each group with at least two prompts, in order of
    p_hat where `groups_by_p_hat`, else of their names.

    >>> found = evaluate([10, 10, 10], [25, 4, 0], [25, 4, 9], p_hat=[0.01] * 3, cap=100)
    >>> found.overall.covered, found.overall.missed, found.overall.unresolved
    (2, 1, 0)
    """
    limit = np.asarray(bounds, dtype=np.int64)
    first = np.asarray(first_unsafe, dtype=np.int64)
    seen = np.asarray(followed, dtype=np.int64)
    p = np.asarray(p_hat, dtype=np.float64)
    if limit.size == 0:
        raise UsageError("there are no test prompts: add prompts, or give them a share")
    missed = (first > 0) & (first < limit)
    covered = ~missed & ((seen >= limit - 1) | (first >= limit))

    strata: list[tuple[str, NDArray[np.intp]]] = []
    if bins > 0:
        parts = np.array_split(np.argsort(p, kind="stable"), min(bins, limit.size))
        strata += zip(_bin_names(p, parts), parts, strict=True)
    by_bins = len(strata)
    if groups is not None:
        names = sorted({name for name in groups if name is not None})
        where = {name: np.flatnonzero([g == name for g in groups]) for name in names}
        if groups_by_p_hat:
            names.sort(key=lambda name: float(p[where[name]].min()))
        strata += [(name, where[name]) for name in names if len(where[name]) > 1]
    each = 1 - (1 - confidence) / max(len(strata), 1)

    def stratum(name: str, members: NDArray[np.intp], confidence: float) -> Coverage:
        return _coverage(name, covered[members], missed[members], limit[members], confidence)

    found = tuple(stratum(name, members, each) for name, members in strata)
    return Evaluation(
        confidence=confidence,
        stratum_confidence=each,
        overall=stratum("all", np.arange(limit.size), confidence),
        by_p_hat=found[:by_bins],
        by_group=found[by_bins:],
        median_bound=float(np.median(limit)),
        log_mean_bound=float(np.exp(np.log(limit).mean())),
        share_at_one=float((limit == 1).mean()),
        share_at_cap=float((limit >= np.asarray(cap)).mean()),
    )


def _bin_names(p: NDArray[np.float64], parts: Sequence[NDArray[np.intp]]) -> list[str]:
    """Names by smallest and largest p_hat, with as many digits (1 to 4) as tell them apart."""
    names: list[str] = []
    for digits in range(4):
        names = [f"p_hat {p[i].min():.{digits}e} .. {p[i].max():.{digits}e}" for i in parts]
        if len(set(names)) == len(names):
            break
    return names


def _coverage(
    name: str,
    covered: NDArray[np.bool_],
    missed: NDArray[np.bool_],
    bounds: NDArray[np.int64],
    confidence: float,
) -> Coverage:
    n = len(covered)
    yes, no = int(covered.sum()), int(missed.sum())
    low, _ = clopper_pearson(yes, n, confidence=confidence)
    _, high = clopper_pearson(n - no, n, confidence=confidence)
    return Coverage(
        name=name,
        prompts=n,
        covered=yes,
        missed=no,
        unresolved=n - yes - no,
        lower=yes / n,
        upper=1 - no / n,
        interval=(float(low), float(high)),
        median_bound=float(np.median(bounds)),
    )
