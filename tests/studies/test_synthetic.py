"""The published population, and coverage in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.studies import exact_coverage, synthetic_population
from tailbound.survival import quantile


def test_the_population_is_the_published_one() -> None:
    found = synthetic_population(20_000, np.random.default_rng(0))
    logs = np.sort(np.log10(found.risks))
    assert logs[:2_000] == pytest.approx(np.linspace(-5, -4, 2_000))
    assert logs[2_000:] == pytest.approx(np.linspace(-3, -2, 18_000))
    times = quantile(found.risks[:, None], np.linspace(0.1, 0.9, 10)[None, :]) ** 0.25
    noise = found.features - times / times.mean()
    # the standard error of the mean of 200,000 values is .0002, of their deviation .00016
    assert abs(noise.mean()) < 0.001
    assert noise.std() == pytest.approx(0.1, abs=0.001)


def test_prompts_stand_in_random_order() -> None:
    one, other = (synthetic_population(1_000, np.random.default_rng(seed)).risks for seed in (0, 1))
    assert not np.array_equal(one, other)
    assert np.array_equal(np.sort(one), np.sort(other))
    assert 20 < (one[:450] < 5e-4).sum() < 70


def test_coverage_is_that_of_simulated_times() -> None:
    rng = np.random.default_rng(0)
    risks = 10 ** rng.uniform(-3, 0, size=200)
    bounds = rng.integers(1, 200, size=200)
    found = exact_coverage(risks, bounds)
    times = rng.geometric(risks, size=(20_000, 200))
    # 4 million times, independent given risks: standard error below .00025; 5 of them
    assert (times >= bounds).mean() == pytest.approx(found.at_least, abs=0.00125)
    assert (times > bounds).mean() == pytest.approx(found.beyond, abs=0.00125)


def test_ends_of_the_range() -> None:
    certain = exact_coverage([1.0, 1.0], [1, 2])
    assert (certain.at_least, certain.beyond) == (0.5, 0.0)
    long = exact_coverage([1e-300], [2**53])
    assert (long.at_least, long.beyond) == (1.0, 1.0)


def test_wrong_values() -> None:
    with pytest.raises(UsageError, match="at least 10 prompts, not 9"):
        synthetic_population(9, np.random.default_rng(0))
    with pytest.raises(UsageError, match="vectors of one length"):
        exact_coverage([0.1], [1, 2])
    with pytest.raises(UsageError, match="vectors of one length"):
        exact_coverage([], [])
