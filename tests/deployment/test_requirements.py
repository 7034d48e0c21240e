"""Decisions from intervals, and how many more observations would bring one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sizes import size
from tailbound.deployment.requirements import decide, more_needed
from tailbound.intervals import betting_upper, clopper_pearson

PROBABILITY = st.floats(0, 1)


@given(PROBABILITY, PROBABILITY, PROBABILITY)
def test_the_three_outcomes_are_exactly_where_the_interval_lies(
    limit: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    found = decide("<=", limit, low, high)
    assert (found == "met") == (high <= limit)
    assert (found == "failed") == (low > limit)
    # turned around: value <= limit is -value >= -limit
    assert decide(">=", -limit, -high, -low) == found


@given(PROBABILITY, PROBABILITY, PROBABILITY, PROBABILITY)
def test_a_narrower_interval_never_takes_a_decision_back(
    limit: float, one: float, other: float, inside: float
) -> None:
    low, high = sorted((one, other))
    wide = decide("<=", limit, low, high)
    middle = low + inside * (high - low)
    for narrow in (decide("<=", limit, low, middle), decide("<=", limit, middle, high)):
        assert wide in ("cannot tell", narrow)


@given(PROBABILITY, st.sampled_from(["<=", ">="]))
def test_an_end_that_is_not_known_shows_nothing(limit: float, relation: str) -> None:
    for low, high in ((None, None), (math.nan, math.nan)):
        assert decide(relation, limit, low, high) == "cannot tell"  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [20, 100, 400, 3000])
@pytest.mark.parametrize("below", [0.0, 1e-9, 0.01, 0.1])
def test_a_false_requirement_on_coverage_is_met_in_at_most_the_stated_rate(
    n: int, below: float
) -> None:
    """Exactly, by enumerating the binomial: coverage >= limit, where it is lower."""
    limit, confidence = 0.88, 0.95
    true = limit - below
    counts = np.arange(n + 1)
    low, high = clopper_pearson(counts, np.full(n + 1, n), confidence=confidence)
    chances = binom.pmf(counts, n, true)
    met = [decide(">=", limit, float(a), float(b)) == "met" for a, b in zip(low, high, strict=True)]
    # at the limit itself the requirement is true by a hair: the worst of all false ones
    assert chances[met].sum() <= (1 - confidence) / 2


@pytest.mark.parametrize(("covered", "n"), [(276, 300), (368, 400), (58, 60)])
def test_as_many_more_as_stated_are_about_enough(covered: int, n: int) -> None:
    """With the estimate as it is, twice as many decide, and half as many do not."""
    limit, share = 0.9, covered / n
    low, high = (float(end) for end in clopper_pearson(covered, n))
    assert decide(">=", limit, low, high) == "cannot tell"
    more = more_needed(limit, estimate=share, low=low, high=high, n=n)
    assert more is not None
    for factor, enough in ((2.0, True), (0.5, False)):
        then = n + round(factor * more)
        ends = clopper_pearson(round(share * then), then)
        assert (decide(">=", limit, float(ends[0]), float(ends[1])) == "met") == enough


def test_draws_without_an_event_shrink_the_upper_end_in_proportion() -> None:
    n, limit = 300, 1e-3
    high = float(clopper_pearson(0, n)[1])
    more = more_needed(limit, estimate=0.0, low=0.0, high=high, n=n)
    assert more is not None
    assert float(clopper_pearson(0, n + more)[1]) == pytest.approx(limit, rel=0.02)


@given(st.floats(1e-6, 0.5), st.floats(1.01, 100), st.floats(1.01, 100), st.integers(1, 10**6))
def test_more_is_a_positive_number_and_falls_with_the_distance(
    estimate: float, wide: float, far: float, n: int
) -> None:
    low, high = estimate / wide, estimate * wide
    near = more_needed(estimate * far**0.5, estimate=estimate, low=low, high=high, n=n, log=True)
    away = more_needed(estimate * far, estimate=estimate, low=low, high=high, n=n, log=True)
    assert away is None or away >= 1
    if near is not None and away is not None:
        assert away <= near


def test_what_no_number_would_tell() -> None:
    known = {"low": 0.1, "high": 0.3, "n": 10}
    assert more_needed(0.2, estimate=0.2, **known) is None  # type: ignore[arg-type]
    assert more_needed(0.2, estimate=None, **known) is None  # type: ignore[arg-type]
    assert more_needed(0.25, estimate=0.2, low=0.1, high=None, n=10) is None
    assert more_needed(0.0, estimate=0.0, low=0.0, high=0.1, n=10) is None


@pytest.mark.slow
def test_a_false_limit_on_the_unsafe_rate_is_met_in_at_most_the_stated_rate() -> None:
    """Betting intervals of prompts with unequal risks: 2.5% at most, the true mean just above.

    With 400 repeats more than 21 called met would come by chance in .1% (binomial at 2.5%); an
    interval of half the width, or the other end of it, is met in most repeats.
    """
    rng = np.random.default_rng(0)
    repeats, prompts, draws, confidence = size(400, 2000), 200, 50, 0.95
    met = 0
    for _ in range(repeats):
        risks = rng.beta(0.5, 9.5, prompts)  # mean .05
        means = rng.binomial(draws, risks) / draws
        upper = float(betting_upper(means, bound=1.0, confidence=(1 + confidence) / 2))
        met += decide("<=", 0.05 - 1e-9, None, upper) == "met"
    assert met <= binom.ppf(0.999, repeats, (1 - confidence) / 2)
