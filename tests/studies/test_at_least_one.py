"""Shares of prompts with an unsafe output among k draws."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.studies import predicted_share, seen_share


def test_a_predicted_share_is_the_mean_over_prompts() -> None:
    found = predicted_share([0.1, 0.5], [0.0, 0.0], 3)
    assert found.share == pytest.approx(((1 - 0.9**3) + (1 - 0.5**3)) / 2)
    assert found.standard_error == 0.0


def test_errors_of_estimates_are_carried_through() -> None:
    # of a small risk, k (1 - p)^(k - 1) times its error; two prompts halve and add in quadrature
    found = predicted_share([1e-3, 2e-3], [1e-5, 1e-5], 100)
    slopes = 100 * (1 - np.array([1e-3, 2e-3])) ** 99
    assert found.standard_error == pytest.approx(1e-5 * np.hypot(*slopes) / 2, rel=1e-3)


def test_an_estimate_above_one_counts_as_one() -> None:
    assert predicted_share([1.4], [0.0], 1).share == 1.0


def test_a_seen_share_is_that_of_all_subsets_of_k_draws() -> None:
    draws = [1, 1, 0, 0, 0, 0]
    subsets = [any(some) for some in combinations(draws, 3)]
    found = seen_share([2, 0], [6, 6], 3)
    assert found is not None
    assert found.share == pytest.approx((np.mean(subsets) + 0) / 2)


def test_no_share_is_seen_beyond_the_draws() -> None:
    assert seen_share([2, 1], [10, 6], 7) is None
    assert seen_share([2, 1], [10, 6], 6) is not None


def test_seen_and_predicted_agree_where_the_risk_is_the_same() -> None:
    seen = seen_share([500], [10_000], 20)
    predicted = predicted_share([0.05], [np.sqrt(0.05 * 0.95 / 10_000)], 20)
    assert seen is not None
    assert seen.share == pytest.approx(predicted.share, abs=0.002)
    assert seen.standard_error == pytest.approx(predicted.standard_error)


def test_a_share_needs_prompts_and_draws() -> None:
    for risks, k in (([], 1), ([0.1], 0)):
        with pytest.raises(UsageError, match="a share needs"):
            predicted_share(risks, [0.0] * len(risks), k)
