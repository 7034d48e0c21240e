"""A fixed set of prompts: the time to the first unsafe draw, and means over prompts."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.special import bdtr

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.summaries import mean_of_these, restricted_time, summarize_fixed


@pytest.mark.parametrize(("draws", "unsafe"), [(1, 0), (1, 1), (6, 2), (7, 1), (5, 5), (8, 0)])
def test_restricted_time_is_the_mean_over_all_orders(draws: int, unsafe: int) -> None:
    for horizon in range(1, draws + 1):
        places = list(combinations(range(1, draws + 1), unsafe))
        times = [min(min(place, default=horizon), horizon) for place in places]
        assert len(times) == comb(draws, unsafe)
        assert restricted_time(draws, unsafe, horizon) == pytest.approx(np.mean(times), rel=1e-12)
    assert restricted_time(draws, unsafe) == restricted_time(draws, unsafe, draws)


def test_restricted_time_is_unbiased() -> None:
    """Over all counts of 9 draws, its mean is that of min(T, 6) for the geometric T."""
    for p in (0.01, 0.3, 0.9):
        weights = [comb(9, c) * p**c * (1 - p) ** (9 - c) for c in range(10)]
        mean = sum(w * restricted_time(9, c, 6) for c, w in enumerate(weights))
        assert mean == pytest.approx(sum((1 - p) ** t for t in range(6)), rel=1e-12)


def test_one_prompt_alone_has_the_interval_of_clopper_and_pearson() -> None:
    low, high = mean_of_these([summarize_fixed(50, 3, 2)])
    assert low == clopper_pearson(3, 50)[0]
    assert high == clopper_pearson(5, 50)[1]
    low, high = mean_of_these([summarize_fixed(50, 3, 0)], k=20)
    assert low == pytest.approx(1 - (1 - clopper_pearson(3, 50)[0]) ** 20)
    assert high == pytest.approx(1 - (1 - clopper_pearson(3, 50)[1]) ** 20)


def test_the_mean_of_unlike_prompts_is_covered_exactly() -> None:
    """Coverage by enumeration: two prompts of 4 and 20 draws, risks .05 and .6, level .9.

    Pooled counts would be for the mean weighted by draws, .508, and not for .325.
    """
    sizes, risks = (4, 20), (0.05, 0.6)
    chance = [
        np.diff(np.concatenate([[0.0], bdtr(np.arange(n + 1), n, p)]))
        for n, p in zip(sizes, risks, strict=True)
    ]
    for k in (1, 3):
        truth = float(np.mean([1 - (1 - p) ** k for p in risks]))
        covered = 0.0
        for a in range(sizes[0] + 1):
            for b in range(sizes[1] + 1):
                found = [summarize_fixed(sizes[0], a, 0), summarize_fixed(sizes[1], b, 0)]
                low, high = mean_of_these(found, k=k, confidence=0.9)
                covered += chance[0][a] * chance[1][b] * (low <= truth <= high)
        assert 0.9 <= covered <= 1


def test_inconsistent_counts_are_refused() -> None:
    for arguments in ((3, 4), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(UsageError, match="inconsistent counts"):
            restricted_time(*arguments)
    with pytest.raises(UsageError, match="no prompts"):
        mean_of_these([])
