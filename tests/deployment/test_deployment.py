"""Traffic in closed form, tails whose laws are known, and what is not known about noisy p."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tailbound.deployment import (
    at_least_one,
    backtest_worst,
    deconvolve,
    effective_counts,
    finite_k_bias,
    fit_gumbel,
    fit_pareto,
    forecast_traffic,
    forecast_worst,
    mix_risk,
    p_of,
    psi_of,
    queries_of,
    straightness,
)
from tailbound.deployment.tails import (
    GumbelTails,
    ParetoTails,
    exponential_largest,
    gumbel_tails,
    largest,
    pareto_tails,
)
from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson


def test_traffic_of_known_risks_is_the_closed_form() -> None:
    mix = mix_risk(queries_of([0.2, 0.01, 0.0]), [1, 3, 6])
    assert mix.risk == pytest.approx(0.1 * 0.2 + 0.3 * 0.01)
    assert mix.interval == pytest.approx((mix.risk, mix.risk))
    found = forecast_traffic(mix, 50)
    assert found.expected == pytest.approx(50 * 0.023)
    assert found.at_least_one == pytest.approx(1 - (1 - 0.023) ** 50)
    assert found.at_least_one_interval == pytest.approx((found.at_least_one,) * 2)


def test_the_interval_of_a_mix_recovers_the_variances_of_its_queries() -> None:
    queries = queries_of([0.2, 0.1], [0.17, 0.06], [0.26, 0.18])
    low, high = mix_risk(queries, [1, 1]).interval
    assert low == pytest.approx(0.15 - np.hypot(0.03, 0.04) / 2)
    assert high == pytest.approx(0.15 + np.hypot(0.06, 0.08) / 2)
    one = mix_risk(queries, [1, 0])
    assert (one.risk, *one.interval) == pytest.approx((0.2, 0.17, 0.26))


def test_what_is_unknown_is_unsafe_in_the_upper_end_and_safe_in_the_lower_one() -> None:
    found = mix_risk(queries_of([0.2], [0.1], [0.4]), unknown=0.25)
    assert found.interval == pytest.approx((0.075, 0.75 * 0.4 + 0.25))


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**15))
def test_at_least_one_is_a_probability_that_rises_with_p(p: float, q: float, n: int) -> None:
    low, high = sorted((p, q))
    assert 0 <= at_least_one(low, n) <= at_least_one(high, n) <= 1


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [1, np.nan], [1, np.inf], [1]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError):
        mix_risk(queries_of([0.1, 0.2]), weights)


@pytest.mark.parametrize(
    ("p", "low", "high"),
    [
        ([], [], []),
        ([1.2], [0], [2]),
        ([np.nan], [0], [1]),
        ([0.5], [0.6], [0.7]),
        ([0.5], [0], []),
    ],
)
def test_values_that_are_no_estimates_are_refused(
    p: list[float], low: list[float], high: list[float]
) -> None:
    with pytest.raises(UsageError):
        queries_of(p, low, high)


def test_effective_counts_of_exact_intervals_are_the_counts() -> None:
    for n in (200, 100_000):
        c = np.array([0, 1, 3, 10, 40, n // 2])
        events, draws = effective_counts(queries_of(c / n, *clopper_pearson(c, n)))
        assert events[:5] == pytest.approx(c[:5], rel=0.1)
        assert draws[:5] == pytest.approx(n, rel=0.1)
        assert draws[5] == pytest.approx(n, rel=0.1)


def test_psi_and_p_are_inverses() -> None:
    p = np.array([0.0, 1e-300, 1e-12, 1e-3, 0.5, 0.999, 1.0])
    assert p_of(psi_of(p)) == pytest.approx(p)


def test_the_regression_is_the_published_one() -> None:
    rng = np.random.default_rng(1)
    top = exponential_largest(rng, 20, 400, 1)[0]
    line = stats.linregress(top, np.log(np.arange(1, 21) / 400))
    fit = fit_gumbel(top, 400)
    assert float(fit.scale) == pytest.approx(-1 / line.slope)
    assert float(fit.quantile(5_000)) == pytest.approx(
        (np.log(1 / 5_000) - line.intercept) / line.slope
    )


def test_the_largest_of_exponentials_have_their_law() -> None:
    """Two-sample tests against sorting; each raises a false alarm with probability .001."""
    rng = np.random.default_rng(2)
    short = exponential_largest(rng, 4, 30, 4_000)
    whole = largest(rng.standard_exponential((4_000, 30)), 4)
    for place in range(4):
        assert stats.ks_2samp(short[:, place], whole[:, place]).pvalue > 0.001


def test_a_log_linear_tail_is_covered_exactly() -> None:
    """Fiducial draws of an exponential tail: nominal .95; outside 4 standard errors is an alarm."""
    rng = np.random.default_rng(3)
    k, m, n, repeats = 10, 200, 20_000, 1_500
    tops = 2.0 + 0.3 * exponential_largest(rng, k, m, repeats)
    worst = 2.0 - 0.3 * np.log(-np.expm1(np.log(rng.random(repeats)) / n))
    inside = 0
    for top, value in zip(tops, worst, strict=True):
        fit = fit_gumbel(np.broadcast_to(top, (400, k)), m)
        low, high = np.quantile(gumbel_tails(fit, rng, k=k, m=m).worst(rng, n), [0.025, 0.975])
        inside += bool(low <= value <= high)
    assert abs(inside / repeats - 0.95) < 4 * np.sqrt(0.95 * 0.05 / repeats) + 0.005


def test_the_bias_of_finite_k_is_that_of_the_published_forecast() -> None:
    rng = np.random.default_rng(4)
    samples = largest(rng.standard_exponential((20_000, 100)), 10)
    direct = np.mean(fit_gumbel(samples, 100).quantile(10_000)) - np.log(10_000)
    bias = finite_k_bias(rng, k=10, m=100, n=10_000, size=20_000)
    assert direct > 0
    assert bias == pytest.approx(direct, abs=0.1)
    assert finite_k_bias(rng, k=50, m=500, n=50_000) < bias


def test_weighted_moments_find_the_pareto_tail() -> None:
    x = stats.genpareto(0.2, scale=3).rvs(200_000, random_state=5)
    scale, shape = fit_pareto(-np.sort(-x))
    assert (float(scale), float(shape)) == pytest.approx((3, 0.2), abs=0.05)


def test_tails_at_shape_zero_are_exponential() -> None:
    one = np.ones(1)
    pareto = ParetoTails(threshold=0 * one, share=0.1 * one, scale=2 * one, shape=0 * one)
    gumbel = GumbelTails(theta=2 * np.log(0.1) * one, sigma=2 * one)
    assert pareto.log_survival(5.0) == pytest.approx(gumbel.log_survival(5.0))
    draws = [tail.worst(np.random.default_rng(6), 1_000)[0] for tail in (pareto, gumbel)]
    assert draws[0] == pytest.approx(draws[1])


def test_a_pareto_tail_is_fitted_around_its_shape() -> None:
    rng = np.random.default_rng(7)
    top = exponential_largest(rng, 101, 1_000, 2_000)
    found = pareto_tails(top[:, :100], top[:, 100], rng, m=1_000)
    assert float(found.shape.mean()) == pytest.approx(0, abs=0.03)


def test_straightness_is_uniform_for_straight_tails() -> None:
    """P-values of 4,000 exact tails: each test has a false-alarm probability of .001."""
    rng = np.random.default_rng(8)
    found = np.array([straightness(top) for top in exponential_largest(rng, 12, 300, 4_000)])
    for values in found.T:
        assert stats.kstest(values, "uniform").pvalue > 0.001


def test_posterior_draws_have_the_spread_of_the_truth_not_of_the_noise() -> None:
    rng = np.random.default_rng(9)
    true = np.exp(rng.normal(-5, 0.5, 800))
    draws = 500
    c = rng.binomial(draws, true)
    queries = queries_of(c / draws, *clopper_pearson(c, draws))
    found = deconvolve(queries).draw(np.random.default_rng(10), 50)
    top = np.median(largest(np.log(p_of(found)), 20)[:, -1])
    truth, noisy = np.sort(np.log(true))[-20], np.sort(np.log(np.maximum(c, 0.1) / draws))[-20]
    assert abs(top - truth) < 0.2 < noisy - truth


def test_queries_without_events_say_only_that_they_are_not_the_worst() -> None:
    rng = np.random.default_rng(11)
    known = np.exp(rng.normal(-5, 1, 100))
    p = np.concatenate([known, np.zeros(400)])
    high = np.concatenate([known, np.full(400, 1e-4)])
    low = np.concatenate([known, np.zeros(400)])
    found = forecast_worst(queries_of(p, low, high), [5_000], replicates=300)
    assert found.resolved_top == 1
    assert any("400 of 500 queries are not resolved" in line for line in found.warnings)


def test_known_zeros_and_ones_are_no_obstacle() -> None:
    p = np.concatenate([np.zeros(80), np.linspace(0.01, 0.2, 19), [1.0]])
    found = forecast_worst(queries_of(p), [1_000], taus=[0.5], replicates=300)
    assert all(0 <= one.exceeds[0] <= 1 for one in found.forecasts)
    assert all(
        0 <= one.interval[0] <= one.median <= one.interval[1] <= 1 for one in found.forecasts
    )
    assert any("gap" in line for line in found.warnings)


def test_a_second_mode_of_a_few_queries_is_warned_of() -> None:
    """The case in which the fit fails: forecasts from most of the tail say nothing of the mode."""
    rng = np.random.default_rng(12)
    p = np.exp(rng.normal(-12, 0.5, 500))
    p[:3] = [0.3, 0.4, 0.5]
    found = forecast_worst(queries_of(p), [5_000], replicates=300)
    assert any("a second mode" in line for line in found.warnings)
    plain = forecast_worst(queries_of(np.exp(rng.normal(-12, 0.5, 500))), [5_000], replicates=300)
    assert not any("a second mode" in line for line in plain.warnings)


@pytest.mark.parametrize(
    ("p", "n", "more", "part"),
    [
        ([0.1] * 9, 100, {}, "takes 10 evaluated ones, not 9"),
        ([0.1, 0.2, 0.3, 0.1, 0.2] * 4, 20_001, {}, "over 1,000 times"),
        ([0.1] * 100, 5, {}, "ask for at least 10"),
        ([0.0] * 20, 200, {}, "have a probability above 0"),
        ([0.1] * 20, 200, {"top": 11}, "5 up to half"),
        ([0.1] * 20, 200, {"taus": [1.0]}, "strictly between 0 and 1"),
    ],
)
def test_what_cannot_be_forecast_is_refused(
    p: list[float], n: int, more: dict[str, object], part: str
) -> None:
    with pytest.raises(UsageError, match=part):
        forecast_worst(queries_of(p), [n], **more)  # type: ignore[arg-type]


def test_too_few_resolved_queries_are_refused() -> None:
    queries = queries_of([0.0] * 20, [0.0] * 20, [0.1] * 20)
    with pytest.raises(UsageError, match="only 0 of 20 queries are resolved"):
        forecast_worst(queries, [200])


def test_far_extrapolation_is_done_when_asked_and_marked() -> None:
    known = np.exp(-np.exp(-np.random.default_rng(13).gumbel(-2.5, 0.1, 200)))
    found = forecast_worst(queries_of(known), [300_000], far=True, replicates=300)
    assert any("not tested by anything" in line for line in found.warnings)


def test_chances_of_exceeding_and_worst_queries_agree() -> None:
    known = np.exp(-np.exp(-np.random.default_rng(14).gumbel(-2.5, 0.1, 300)))
    first = forecast_worst(queries_of(known), [3_000])
    tau = first.forecasts[0].median
    again = forecast_worst(queries_of(known), [3_000], taus=[tau])
    assert again.forecasts[0].exceeds[0] == pytest.approx(0.5, abs=0.05)


def test_a_backtest_on_a_log_linear_tail_is_about_right() -> None:
    known = np.exp(-np.exp(-np.random.default_rng(15).gumbel(-2.5, 0.1, 600)))
    found = backtest_worst(queries_of(known))
    assert (found.fitted, found.forecast, found.splits) == (180, 420, 100)
    assert found.median_absolute_error < 0.6
    assert found.within_factor_10 > 0.9
    with pytest.raises(UsageError, match="at least 34"):
        backtest_worst(queries_of(known[:30]))
