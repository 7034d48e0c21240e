"""`estimate`: closed forms, the contract of its fields, properties, errors."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, t

from tailbound.errors import UsageError
from tailbound.importance_sampling import effective_sample_size, estimate_risk
from tailbound.intervals import betting_lower, betting_upper

rows = st.lists(
    st.tuples(st.floats(-8, 2.3), st.sampled_from([0.0, 0.0, 1.0, 0.3])), min_size=2, max_size=60
)


def test_plain_monte_carlo_is_clopper_pearson_on_both_sides() -> None:
    harm = np.array([1.0] * 12 + [0.0] * 388)
    result = estimate_risk(np.zeros(400), harm)
    assert result.risk == 0.03
    assert result.certified_lower == pytest.approx(beta.ppf(0.05, 12, 389))
    assert result.certified_upper == pytest.approx(beta.ppf(0.95, 13, 388))
    assert result.interval == pytest.approx((beta.ppf(0.025, 12, 389), beta.ppf(0.975, 13, 388)))
    assert result.standard_error == pytest.approx(np.sqrt(0.03 * 0.97 / 399))
    assert (result.resolved, result.status) == (True, "resolved")
    assert (result.mean_weight, result.mean_weight_z) == (1.0, 0.0)
    assert result.ess_harm == pytest.approx(12)
    assert result.largest_share == pytest.approx(1 / 12)
    assert "exact (Clopper-Pearson" in result.guarantee
    assert result.estimand == "P(unsafe) of one reply"


def test_plain_monte_carlo_that_was_drawn_until_resolved_uses_betting() -> None:
    harm = np.array([1.0] * 12 + [0.0] * 388)
    result = estimate_risk(np.zeros(400), harm, sequential=True)
    assert result.certified_lower == pytest.approx(float(betting_lower(harm)))
    assert result.certified_upper == pytest.approx(float(betting_upper(harm)))
    assert "Clopper" not in result.guarantee
    low, high = result.interval or (0, 0)
    assert low < 0.03 < high


def test_scores_under_plain_monte_carlo_are_bounded_by_one() -> None:
    harm = np.linspace(0, 1, 101)
    result = estimate_risk(np.zeros(101), harm)
    assert result.certified_lower == pytest.approx(float(betting_lower(harm)))
    assert result.certified_upper == pytest.approx(float(betting_upper(harm)))
    assert result.estimand == "mean harm of one reply"
    assert estimate_risk(np.zeros(101), harm, estimand="mean score").estimand == "mean score"


def test_weighted_draws() -> None:
    rng = np.random.default_rng(0)
    log_w = np.minimum(rng.normal(-2, 1.5, 300), np.log(10))
    harm = (rng.random(300) < 0.4).astype(float)
    x = np.exp(log_w) * harm
    result = estimate_risk(log_w, harm, weight_bound=10.0, coverage_checked=True)
    assert result.risk == pytest.approx(x.mean())
    error = x.std(ddof=1) / np.sqrt(300)
    assert result.standard_error == pytest.approx(error)
    assert result.certified_lower == pytest.approx(float(betting_lower(x)))
    assert result.certified_upper == pytest.approx(float(betting_upper(x, bound=10.0)))
    ess = effective_sample_size(np.log(x[x > 0]))
    assert result.ess_harm == pytest.approx(ess)
    assert result.status == "resolved"
    quantile, share = t.ppf(0.975, ess - 1), x.max() / x.sum()
    width = quantile * error / x.mean()
    # the upper end with three more draws of the largest kind
    upper = x.mean() * (1 + 3 * share) * np.exp(np.hypot(width, quantile * share * 3**0.5))
    assert result.interval == pytest.approx((x.mean() * np.exp(-width), upper))
    assert result.hits == int(harm.sum())
    assert result.largest_share == pytest.approx(share)
    assert "assumes the proposals cover" in result.guarantee


def test_without_a_bound_on_the_weights() -> None:
    rng = np.random.default_rng(0)
    log_w, harm = rng.normal(-5, 1, 300), np.ones(300)
    result = estimate_risk(log_w, harm)
    assert result.certified_upper is None
    assert result.status.startswith("coverage not checked")
    assert (result.precise, result.coverage) == (True, "not checked")
    assert not result.resolved
    assert result.interval is None
    assert result.needed_draws is None
    assert "no upper bound" in result.guarantee
    assert estimate_risk(log_w, harm, coverage_checked=True).resolved


def test_no_hits() -> None:
    result = estimate_risk(np.full(500, -3.0), np.zeros(500), weight_bound=10.0)
    assert (result.risk, result.certified_lower, result.hits) == (0, 0, 0)
    assert result.certified_upper == pytest.approx(0.071, abs=1e-3)
    assert result.standard_error is None
    assert result.interval is None
    assert result.largest_share is None
    assert result.status.startswith("not resolved: needs about 5,000 draws")
    assert result.needed_draws == 5000
    # a hit that the target cannot say is none
    nothing = estimate_risk([-np.inf, 0.1], [1.0, 0.0])
    assert nothing.status.endswith("(what was unsafe, 1 draws, the target cannot say)")
    assert (nothing.risk, nothing.ess_harm, nothing.certified_lower) == (0, 0, 0)
    assert nothing.standard_error is None


def test_few_effective_hits() -> None:
    log_w = np.array([-1.0, -1.0, -9.0] + [-3.0] * 97)
    harm = np.array([1.0] * 3 + [0.0] * 97)
    result = estimate_risk(log_w, harm, weight_bound=10.0)
    assert result.status == "not resolved: needs about 500 draws"
    assert result.needed_draws == 500
    assert 0 < result.certified_lower < result.risk


def test_missing_verdicts_are_safe_below_and_unsafe_above() -> None:
    harm = np.array([1.0] * 30 + [np.nan] * 10 + [0.0] * 160)
    plain = estimate_risk(np.zeros(200), harm)
    assert plain.missing == 10
    assert plain.certified_lower == pytest.approx(beta.ppf(0.05, 30, 171))
    assert plain.certified_upper == pytest.approx(beta.ppf(0.95, 41, 160))
    assert plain.interval == pytest.approx((beta.ppf(0.025, 30, 171), beta.ppf(0.975, 41, 160)))
    assert plain.missing_range == (0.15, 0.2)
    assert plain.risk == pytest.approx(30 / 190)

    log_w = np.log(np.linspace(0.2, 1.8, 200))
    weighted = estimate_risk(log_w, harm, weight_bound=10.0)
    low, high = np.nan_to_num(harm, nan=0.0), np.nan_to_num(harm, nan=1.0)
    assert weighted.certified_lower == estimate_risk(log_w, low, weight_bound=10.0).certified_lower
    assert weighted.certified_upper == estimate_risk(log_w, high, weight_bound=10.0).certified_upper


def test_missing_verdicts_that_could_double_the_number_leave_it_unresolved() -> None:
    log_w = np.concatenate([np.full(200, -6.0), np.full(50, 2.0)])
    harm = np.concatenate([np.ones(200), np.zeros(50)])
    assert estimate_risk(log_w, harm, weight_bound=10.0, coverage_checked=True).resolved
    harm[-1] = np.nan
    result = estimate_risk(log_w, harm, weight_bound=10.0)
    assert not result.resolved
    assert "1 missing verdicts leave" in result.status
    nothing = estimate_risk(log_w, np.full(250, np.nan), weight_bound=10.0)
    assert np.isnan(nothing.risk)
    assert nothing.certified_lower == 0
    assert nothing.certified_upper == 1
    assert nothing.status == "not resolved: all 250 verdicts are missing"
    assert nothing.to_dict()["risk"] is None


def test_missing_verdicts_are_weighted_like_all_others() -> None:
    """Three replies: safe, unsafe (risk 1e-3), and one that cannot be judged.

    The proposal says the last in 40% of its draws, the target in 1e-6 or in a third: the estimate
    is E_p[h] over the replies of the target that can be judged. 100 estimates of a relative
    standard deviation of .05: their mean is within 2% but for four seeds in 1e5; the seed is fixed.
    """
    rng = np.random.default_rng(4)
    q = np.array([0.3, 0.3, 0.4])
    for unjudged in (1e-6, 1 / 3):
        p = np.array([1 - 1e-3 - unjudged, 1e-3, unjudged])
        found = []
        for _ in range(100):
            y = np.concatenate([rng.choice(3, 50, p=p), rng.choice(3, 450, p=q)])
            weights = p[y] / (0.1 * p[y] + 0.9 * q[y])
            harm = np.array([0.0, 1.0, np.nan])[y]
            result = estimate_risk(np.log(weights), harm, weight_bound=10.0, coverage_checked=True)
            low, high = result.missing_range
            assert low <= result.risk <= high
            found.append(result.risk)
            if unjudged < 1e-3:
                assert result.resolved
                assert result.interval is not None
                assert result.interval[0] < result.risk < result.interval[1]
        assert np.mean(found) == pytest.approx(1e-3 / (1 - unjudged), rel=0.02)


@pytest.mark.slow
def test_intervals_of_resolved_estimates_with_uneven_weights() -> None:
    """400 kinds of unsafe replies, weights log-normal with standard deviation 1, a risk of 1e-3.

    Of 2,000 intervals from 200 draws at most 5% miss (2%; an interval that is even about the
    estimate: 6%). The standard error of a share of 2% is .3%: 5% in fewer than 1e-9 of seeds.
    """
    rng = np.random.default_rng(6)
    kinds = np.exp(rng.normal(0, 1, 400))
    said = kinds * np.exp(rng.normal(0, 1, 400))
    p = np.append(0.999, 1e-3 * kinds / kinds.sum())
    q = np.append(0.8, 0.2 * said / said.sum())
    strata = np.repeat([0, 1], [20, 180])
    weights = p / (0.1 * p + 0.9 * q)
    missed, resolved = 0, 0
    for _ in range(2000):
        y = np.concatenate([rng.choice(401, 20, p=p), rng.choice(401, 180, p=q)])
        harm = (y > 0).astype(float)
        result = estimate_risk(
            np.log(weights[y]), harm, weight_bound=10.0, strata=strata, coverage_checked=True
        )
        if result.interval is not None:
            resolved += 1
            missed += not result.interval[0] <= 1e-3 <= result.interval[1]
    assert resolved > 1500
    assert missed <= 0.05 * resolved


def test_strata_make_errors_smaller_and_change_no_bound() -> None:
    log_w = np.repeat([-1.0, -3.0], 100)
    harm = np.ones(200)
    one = estimate_risk(log_w, harm, weight_bound=10.0)
    other = estimate_risk(log_w, harm, weight_bound=10.0, strata=np.repeat([0, 1], 100))
    assert one.standard_error is not None
    assert other.standard_error == pytest.approx(0, abs=1e-12)
    assert (one.risk, one.certified_lower, one.certified_upper) == (
        other.risk,
        other.certified_lower,
        other.certified_upper,
    )


@given(rows)
def test_bounds_enclose_the_estimate_and_order_does_not_matter(
    draws: list[tuple[float, float]],
) -> None:
    log_w, harm = map(np.array, zip(*draws, strict=True))
    result = estimate_risk(log_w, harm, weight_bound=10.0)
    assert result.certified_upper is not None
    assert 0 <= result.certified_lower <= min(1, result.risk) * (1 + 1e-9)
    assert min(1, result.risk) <= result.certified_upper * (1 + 1e-9) <= 1 + 1e-9
    back = estimate_risk(log_w[::-1], harm[::-1], weight_bound=10.0)
    assert back.risk == pytest.approx(result.risk)
    assert back.certified_lower == pytest.approx(result.certified_lower, rel=1e-9)
    assert back.certified_upper == pytest.approx(result.certified_upper, rel=1e-9)


@given(rows, st.floats(-650, -10))
def test_small_risks_scale(draws: list[tuple[float, float]], shift: float) -> None:
    log_w, harm = map(np.array, zip(*draws, strict=True))
    one, other = estimate_risk(log_w - 10, harm), estimate_risk(log_w + shift, harm)
    factor = np.exp(shift + 10)
    assert other.risk == pytest.approx(one.risk * factor, rel=1e-9)
    assert other.certified_lower == pytest.approx(one.certified_lower * factor, rel=1e-9)
    assert other.ess_harm == pytest.approx(one.ess_harm, rel=1e-9)
    assert other.status == one.status


@given(rows, st.data())
def test_more_harm_never_lowers_a_bound(
    draws: list[tuple[float, float]], data: st.DataObject
) -> None:
    log_w, harm = map(np.array, zip(*draws, strict=True))
    more = harm.copy()
    place = data.draw(st.integers(0, harm.size - 1))
    more[place] = data.draw(st.one_of(st.floats(harm[place], 1.0), st.just(np.nan)))
    one, other = (estimate_risk(log_w, h, weight_bound=10.0) for h in (harm, more))
    assert other.certified_upper >= one.certified_upper * (1 - 1e-9)  # type: ignore[operator]
    if not np.isnan(more[place]):
        assert other.certified_lower >= one.certified_lower * (1 - 1e-9)


def test_result_is_frozen_and_plain() -> None:
    result = estimate_risk([0.0, 0.0], [1.0, 0.0])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.risk = 0.5  # type: ignore[misc]
    read = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert read["certified_upper"] == result.certified_upper
    assert json.dumps(estimate_risk([900.0, -900.0], [1.0, 1.0]).to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([0.0, np.nan], [0.0, 1.0]), {}, "draw 1 has nan"),
        (([np.inf, 0.0], [0.0, 1.0]), {}, "draw 0 has inf"),
        (([0.0], [0.0, 1.0]), {}, "one value per draw"),
        (([], []), {}, "at least one draw"),
        (([0.0], [1.5]), {}, "draw 0 has 1.5"),
        (([0.0], [-0.1]), {}, "draw 0 has -0.1"),
        (([0.0], [np.inf]), {}, "draw 0 has inf"),
        (([3.0], [1.0]), {"weight_bound": 10.0}, "above weight_bound"),
        (([0.0], [1.0]), {"weight_bound": 0.5}, "at least 1"),
        (([0.0], [1.0]), {"weight_bound": np.inf}, "finite"),
        (([0.0], [1.0]), {"confidence": 0.4}, "confidence"),
        (([0.0], [1.0]), {"confidence": 1.0}, "confidence"),
        (([0.0], [1.0]), {"strata": [0, 1]}, "strata"),
    ],
)
def test_bad_input(arguments: tuple, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        estimate_risk(*arguments, **options)
    assert "\n" not in str(caught.value)
