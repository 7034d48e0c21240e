"""Variance of log10 p within and between groups of wordings, against known components."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from sizes import size
from tailbound.deployment import Queries, queries_of, spread_by_group, variance_components
from tailbound.errors import UsageError


def estimates(x: np.ndarray, errors: np.ndarray | float = 0.0) -> Queries:
    """Estimates of 10^x with intervals of log10 at 95%."""
    half = 1.959963984540054 * np.broadcast_to(errors, x.shape)
    return queries_of(10**x, 10 ** (x - half), np.minimum(10 ** (x + half), 1.0))


def test_components_are_unbiased_by_enumeration() -> None:
    """Signs of three queries and five wordings: the mean over all outcomes is the truth.

    Groups of 1 and of 2 wordings. Noise of known size is added by signs too. Estimates are cut at
    0, which moves the mean up: so within is made large, and between larger.
    """
    groups, at = ["a", "b", "b", "c", "c"], np.array([0, 1, 1, 2, 2])
    errors = np.array([0.1, 0.05, 0.1, 0.02, 0.2])
    signs = np.array(list(product([-1.0, 1.0], repeat=13)))
    chosen = signs[np.random.default_rng(0).permutation(len(signs))[: size(1_500, 8_192)]]
    found = []
    for row in chosen:
        x = -6 + 2.0 * row[at] + 0.5 * row[3:8] + errors * row[8:]
        found.append(_uncut(estimates(x, errors), groups))
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert np.abs(mean - [0.25, 4.0]) == pytest.approx(0, abs=1e-9 + 4 * float(error.max()))


def _uncut(queries: Queries, groups: list[str]) -> tuple[float, float]:
    """The two formulas written out for these groups, and compared where they were not cut."""
    x, e = np.log10(queries.p), np.array([0.1, 0.05, 0.1, 0.02, 0.2])
    names, at = np.unique(groups, return_inverse=True)
    n = np.bincount(at)
    means = np.bincount(at, x) / n
    within = ((x - means[at]) ** 2).sum() - (e**2 * (1 - 1 / n[at])).sum()
    within /= x.size - names.size
    squares = (n * (means - x.mean()) ** 2).sum() - (e**2 * (1 / n[at] - 1 / x.size)).sum()
    between = (squares - (names.size - 1) * within) / (x.size - (n**2).sum() / x.size)
    found = variance_components(queries, groups, repeats=10)
    assert found.within == pytest.approx(max(within, 0), abs=1e-9)
    assert found.between == pytest.approx(max(between, 0), abs=1e-9)
    return within, between


def test_noise_alone_is_no_sensitivity() -> None:
    """Wordings that are all alike: the naive variance is that of the noise."""
    rng = np.random.default_rng(1)
    groups = [f"q{i // 5}" for i in range(500)]
    errors = np.full(500, 0.3)
    x = -5 + np.repeat(rng.normal(0, 1, 100), 5) + errors * rng.standard_normal(500)
    found = variance_components(estimates(x, errors), groups)
    assert found.noise == pytest.approx(0.09, rel=1e-6)
    assert found.within < 0.015
    assert found.within_interval[0] <= 0.001
    naive = np.mean([np.var(x[i : i + 5], ddof=1) for i in range(0, 500, 5)])
    assert naive > 0.07


@pytest.mark.slow
@pytest.mark.parametrize(
    ("groups", "wordings", "within", "error"),
    [(100, 5, 0.5, 0.15), (50, 5, 0.3, 0.3), (30, 3, 0.5, 0.1), (200, 25, 0.2, 0.2)],
)
def test_intervals_hold(groups: int, wordings: int, within: float, error: float) -> None:
    """Nominal .95, by percentiles of a bootstrap: at least .85 of the repeats with 30 groups."""
    repeats, held = size(100, 500), np.zeros(3)
    for seed in range(repeats):
        rng = np.random.default_rng([seed, groups])
        at = np.repeat(np.arange(groups), wordings)
        truth = -5 + rng.standard_normal(groups)[at] + within * rng.standard_normal(at.size)
        errors = error * rng.uniform(0.7, 1.3, at.size)
        x = truth + errors * rng.standard_normal(at.size)
        found = variance_components(estimates(x, errors), [str(i) for i in at], repeats=500)
        assert found.share_interval is not None
        pairs = (
            (found.within_interval, within**2),
            (found.between_interval, 1.0),
            (found.share_interval, within**2 / (within**2 + 1)),
        )
        held += [low <= value <= high for (low, high), value in pairs]
    print(groups, wordings, held / repeats)
    nominal = 0.9 if groups >= 50 else 0.85
    assert (held / repeats >= nominal - 3 * np.sqrt(nominal * (1 - nominal) / repeats)).all()


def test_wordings_that_are_not_resolved_are_left_out() -> None:
    queries = queries_of(
        [0.1, 0.01, 0.0, 0.001], [0.05, 0.005, 0.0, 0.0005], [0.2, 0.02, 0.01, 0.002]
    )
    found = spread_by_group(queries, ["a", "a", "a", "b"])
    assert (found[0].wordings, found[0].unresolved, found[0].worst, found[0].best) == (3, 1, 0, 1)
    assert found[0].spread == pytest.approx(1)
    assert found[1].sd is None
    assert variance_components(queries, ["a", "a", "a", "b"]).wordings == 3


def test_too_little_is_refused() -> None:
    with pytest.raises(UsageError, match="two groups with a resolved wording"):
        variance_components(queries_of([0.1, 0.01]), ["a", "a"])
    with pytest.raises(UsageError, match="one with two"):
        variance_components(queries_of([0.1, 0.01]), ["a", "b"])
    with pytest.raises(UsageError, match="the group of each query"):
        spread_by_group(queries_of([0.1, 0.01]), ["a"])
