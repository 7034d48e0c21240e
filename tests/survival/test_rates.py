"""Event rates: values that are exact averages, brackets that hold, intervals that cover."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from populations import Observed

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.survival import (
    calibrate_with_record,
    counted_prompts,
    mean_limits,
    quantile,
    rates,
    weighted_prompts,
)


def risks(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "log-uniform":
        return 10 ** rng.uniform(-6, -1, n)
    if kind == "rare class":
        return np.where(rng.random(n) < 0.02, 0.3, 1e-5)
    if kind == "alike":
        return np.full(n, 0.01)
    return rng.beta(0.2, 20, n)


def test_values_of_counts_are_means_over_all_orders_of_the_draws():
    n, c = 7, 3
    orders = [min(places) for places in combinations(range(1, n + 1), c)]
    followed = counted_prompts([c], n)
    for k in range(1, n + 1):
        assert followed.unsafe(k) == pytest.approx(np.mean([first <= k for first in orders]))
        assert followed.maybe(k) == pytest.approx(followed.unsafe(k))
        time = np.mean([min(first, k) for first in orders])
        assert k - followed.unsafe_draws(k) == pytest.approx(time)


@pytest.mark.parametrize(
    "followed",
    [
        counted_prompts([0, 1, 3], [20, 10, 5], missing=[0, 2, 1]),
        counted_prompts([0, 1, 3], 8, units=["a", "b", "a"]),
        weighted_prompts([4, 0, 0, 9], [30, 12, 3, 30], [2, 0, 5, 1], first_missing=[0, 0, 2, 0]),
    ],
)
def test_draws_are_sums_over_the_curve(followed):
    for k in (1, 4, 8, 15, 40):
        for name in ("unsafe", "maybe"):
            total = sum((getattr(followed, name)(t) for t in range(1, k)), np.zeros(len(followed)))
            assert getattr(followed, f"{name}_draws")(k) == pytest.approx(total)


def test_what_is_not_known_is_a_bracket():
    found = rates(counted_prompts([1, 0], 10, missing=[0, 1]), within=[5, 50])
    assert found.identified_to == 0
    five, fifty = found.within
    assert (five.lower, five.upper) == pytest.approx((0.25, 0.5))
    assert fifty.lower == pytest.approx(0.5)
    whole = rates(counted_prompts([1, 0], 10), within=[5])
    assert whole.identified_to == 10
    assert whole.within[0].lower == whole.within[0].upper
    censored = rates(weighted_prompts([3, 0], [9, 4], [1.0, 1.0]), within=[4, 5])
    assert censored.identified_to == 4
    assert [(one.lower, one.upper) for one in censored.within] == [(0.5, 0.5), (0.5, 1.0)]
    assert censored.draws_per_find.draws == 4


def test_wordings_of_one_query_count_as_one_prompt():
    found = rates(counted_prompts([10, 10, 0], 10, units=["a", "a", "b"]), within=[1])
    assert found.prompts == 2
    assert found.within[0].lower == pytest.approx(0.5)


def test_no_curve_is_below_what_independence_allows():
    """P(T > k) beyond the draws is at least the limit that log-convexity gives, exactly so."""
    rng = np.random.default_rng(0)
    for kind in ("log-uniform", "rare class", "alike", "beta"):
        p = risks(kind, 200_000, rng)
        n, j = 200, 100
        s = {k: ((1 - p) ** k).mean() for k in (j, n, 300, 2000)}
        for k in (300, 2000):
            assert s[n] * (s[n] / s[j]) ** ((k - n) / (n - j)) <= s[k] * (1 + 1e-9)
            found = rates(counted_prompts(rng.binomial(n, p[:2000]), n), within=[k]).within[0]
            assert found.lower <= (1 - s[k]) * 1.1
            assert found.interval[0] <= 1 - s[k] <= found.interval[1]


def test_limits_of_rare_events_are_about_those_of_clopper_and_pearson():
    for events, n in ((0, 100), (1, 100), (6, 300), (40, 400), (297, 300)):
        found = mean_limits(np.arange(n) < events, bound=1.0, side=0.975)
        exact = [float(end) for end in clopper_pearson(events, n, confidence=0.95)]
        assert found == pytest.approx(exact, abs=0.012)
    assert mean_limits([0.5], bound=2.0, side=0.9) == (0.0, 2.0)


def hits(kind: str, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """How often each interval covers, 300 prompts x 200 draws."""
    big = risks(kind, 300_000, rng)
    ks, n = (1, 10, 100, 200, 1000), 200
    truth = {k: 1 - float(((1 - big) ** k).mean()) for k in ks}
    time = float(((1 - (1 - big) ** n) / big).mean())
    count = dict.fromkeys([*map(str, ks), "time", "find", "band"], 0)
    band: dict[int, float] = {}
    for _ in range(repeats):
        p = risks(kind, 300, rng)
        found = rates(counted_prompts(rng.binomial(n, p), n), within=ks)
        for one in found.within:
            count[str(one.draws)] += one.interval[0] <= truth[one.draws] <= one.interval[1]
        low, high = found.restricted_mean.interval
        count["time"] += low <= time <= high
        low, high = found.draws_per_find.interval
        count["find"] += low <= time / truth[n] <= (np.inf if high is None else high)
        for one in found.survival:
            if one.draws not in band:
                band[one.draws] = float(((1 - big) ** one.draws).mean())
        inside = [one.interval[0] <= band[one.draws] <= one.interval[1] for one in found.survival]
        count["band"] += all(inside)
    return {name: value / repeats for name, value in count.items()}


@pytest.mark.parametrize("kind", ["rare class", "beta"])
def test_intervals_from_counts_cover(kind):
    """Nominal .95; 40 repeats, of which at most 5 may miss (.02 if nominal)."""
    found = hits(kind, 40, np.random.default_rng(4))
    assert min(found.values()) >= 35 / 40


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["log-uniform", "rare class", "alike", "beta"])
def test_intervals_from_counts_cover_as_often_as_they_say(kind):
    """Nominal .95; 300 repeats, two standard errors are .025."""
    found = hits(kind, 300, np.random.default_rng(6))
    assert min(found.values()) >= 0.93


def test_weighted_prompts_cover_where_ignoring_the_weights_does_not():
    """Riskier prompts are followed less far: the share of events among the followed is far off."""
    rng = np.random.default_rng(3)
    hit, naive, repeats = 0, 0, 40
    for _ in range(repeats):
        risky = rng.random(600) < 0.3
        risk, p_hat = np.where(risky, 0.08, 2e-4), np.where(risky, 0.02, 1e-4)
        truth = 0.3 * (1 - 0.92**5) + 0.7 * (1 - (1 - 2e-4) ** 5)
        bound, record = calibrate_with_record(
            p_hat, Observed(rng.geometric(risk)), budget=30, guarantee="plug-in", rng=rng
        )
        horizons = np.minimum(quantile(p_hat, record.sure_to), bound.cap) - 1
        assert (record.horizons >= horizons[record.indices])[record.first_event == 0].all()
        weights, first = np.zeros(600), np.zeros(600, dtype=np.int64)
        weights[record.indices], first[record.indices] = record.weights, record.first_event
        followed = weighted_prompts(first, horizons, weights, weight_bound=bound.weight_bound)
        (found,) = rates(followed, within=[5]).within
        hit += found.interval[0] <= truth <= found.interval[1]
        seen = (record.first_event > 0) & (record.first_event <= 5)
        low, high = clopper_pearson(seen.sum(), len(seen))
        naive += float(low) <= truth <= float(high)
    assert hit >= 37
    assert naive <= 20


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rates(counted_prompts([], 5)), "no followed prompts"),
        (lambda: rates(counted_prompts([1], 5), within=[0]), "at least 1 draw"),
        (lambda: rates(counted_prompts([1], 5), confidence=1), "confidence must lie"),
        (lambda: counted_prompts([6], 5), "at most draws in all"),
        (lambda: counted_prompts([1, 2], 5, units=["a"]), "units has shape"),
        (lambda: weighted_prompts([1], [2, 3], [1]), "must be the same"),
        (lambda: weighted_prompts([1], [2], [-1]), "must not be negative"),
    ],
)
def test_what_contradicts_itself_is_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()
