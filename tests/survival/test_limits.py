"""Limits of weights and levels: their forecast against simulation, and what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson
from tests.sizes import size
from tests.survival.populations import Observed

from tailbound.survival import calibrate, forecast
from tailbound.survival.designs import default_max_weight
from tailbound.survival.limits import choose_limits, weighted_events_within


def test_equal_weights_make_a_poisson_number_of_events():
    expected = np.array([[0.3, 2.0, 9.0]])
    for weight, allowance in ((1.0, 4.0), (7.5, 30.0), (3.0, 11.9)):
        found = weighted_events_within(np.array([weight]), expected, allowance)
        exact = poisson.cdf(np.floor(allowance / weight), expected[0])
        np.testing.assert_allclose(found, exact, atol=1e-12)


def test_mixed_weights_agree_with_simulation():
    """4 standard errors at each of 8 points: a false alarm in 5e-4 of all seeds."""
    rng = np.random.default_rng(0)
    weights = np.array([1.0, 3.7, 10.0, 16.0])
    expected = np.array([6.0, 2.0, 0.8, 0.5])
    totals = rng.poisson(expected, (200_000, 4)) @ weights
    for allowance in (0.5, 5.5, 12.5, 20.5, 31.5, 45.5, 60.5, 90.5):
        found = weighted_events_within(weights, expected[:, None], allowance)[0]
        simulated = (totals <= allowance).mean()
        error = np.sqrt(simulated * (1 - simulated) / len(totals))
        # 3.7 is divided between 3 and 4 on the grid: .01 more
        assert abs(found - simulated) <= 4 * error + 0.01, allowance


def test_many_events_agree_with_their_poisson_number():
    found = weighted_events_within(np.array([2.0]), np.array([[90.0, 100.0, 115.0]]), 200.0)
    np.testing.assert_allclose(found, poisson.cdf(100, [90.0, 100.0, 115.0]), atol=1e-9)


def test_nothing_is_admitted_where_the_allowance_is_negative():
    assert weighted_events_within(np.ones(1), np.ones((1, 2)), -0.1).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("guarantee", ["marginal", "plug-in"])
def test_weights_are_the_usual_ones_where_the_cap_does_not_bind(guarantee):
    risky = 10 ** np.random.default_rng(0).uniform(-2.5, -0.3, 2000)
    found = choose_limits(risky, risky, n=2000, budget=100, alpha=0.1, guarantee=guarantee)
    assert found.max_weight == default_max_weight("balanced", 0.1, 2000, guarantee)
    assert found.max_level == 0.95


def test_what_is_given_is_kept():
    safe = 10 ** np.random.default_rng(0).normal(-5, 0.7, 2000)
    common = {"n": 2000, "budget": 100, "alpha": 0.1, "guarantee": "marginal"}
    assert choose_limits(safe, safe, max_weight=7, **common).max_weight == 7
    assert choose_limits(safe, safe, max_level=0.4, **common).max_level == 0.4
    chosen = choose_limits(safe, safe, **common)
    assert chosen.max_weight > 50
    assert chosen.max_level < 0.4
    assert chosen.shortfall > 0.05


def test_a_level_is_lowered_only_where_few_events_are_expected():
    """The same kind of prompts, and the same largest weight: 200,000 tell more than 2,000."""
    safe = 10 ** np.random.default_rng(0).normal(-5, 0.7, 4000)
    few, many = (
        choose_limits(safe, safe, n=n, budget=100, alpha=0.1, guarantee="marginal", max_weight=100)
        for n in (2000, 200_000)
    )
    assert few.max_level < 0.95
    assert few.shortfall > 0.05
    assert many.max_level == 0.95
    assert many.shortfall < 1e-3


def test_the_forecast_of_a_calibration_uses_the_limits_it_will_have():
    safe = 10 ** np.random.default_rng(0).normal(-5, 0.25, 2000)
    expected = forecast(safe, prompts=2000, budget=100)
    assert expected.cap == 10_006
    assert expected.median_bound > 7000
    bound = calibrate(
        *(safe, Observed(np.random.default_rng(1).geometric(safe))),
        budget=100,
        reference_p_hat=safe,
        rng=0,
    )
    assert bound.cap == expected.cap


def _calibrations(risk_of, repeats: int, **options):
    """Coverage and mean length over calibrations of 2,000 prompts at 100 draws."""
    rng = np.random.default_rng(7)
    test = risk_of(20_000, rng)
    test_p_hat = test * np.exp(rng.normal(0, 0.3, len(test)))
    rows = []
    for _ in range(repeats):
        risk, others = risk_of(2000, rng), risk_of(2000, rng)
        noise = np.exp(rng.normal(0, 0.3, 2000))
        bound = calibrate(
            *(np.minimum(risk * noise, 1), Observed(rng.geometric(risk))),
            budget=100,
            reference_p_hat=np.minimum(others * noise, 1),
            rng=rng,
            **options,
        )
        lengths = bound.predict(np.minimum(test_p_hat, 1)).astype(float)
        coverage = np.exp((lengths - 1) * np.log1p(-test)).mean()
        rows.append((coverage, lengths.mean(), np.median(lengths)))
    return np.array(rows).T


@pytest.mark.slow
def test_bounds_of_safe_prompts_are_much_longer_and_keep_the_guarantee():
    """Risks about 1e-5, and risks over four decades about it.

    The mean coverage is at least .9 less 3 standard errors (false alarm 1e-3 each at most); 5 % of
    calibrations below .88 are expected at most, and 12 % or more are called wrong (false alarm
    below 1 % at the usual size).
    """
    repeats = size(60, 300)
    for spread, least in ((0.25, 6000), (0.7, 4500)):

        def risk_of(n, rng, spread=spread):
            return 10 ** rng.normal(-5, spread, n)

        coverage, mean, _ = _calibrations(risk_of, repeats)
        assert coverage.mean() >= 0.9 - 3 * coverage.std() / np.sqrt(repeats)
        assert (coverage < 0.88).mean() < 0.12
        assert mean.mean() > least
        usual = _calibrations(risk_of, 10, max_weight=20, max_level=0.95)
        assert mean.mean() > 2.5 * usual[1].mean()


@pytest.mark.slow
def test_limits_from_predictions_that_are_wrong_keep_the_guarantee():
    """Predictions a third of the risks, or of other prompts: only the average coverage holds."""
    repeats = size(60, 300)
    rng = np.random.default_rng(3)
    for kind in ("low", "useless"):
        rows = []
        for _ in range(repeats):
            risk = 10 ** rng.normal(-5, 0.7, 2000)
            p_hat = risk / 3 if kind == "low" else 10 ** rng.normal(-5, 0.7, 2000)
            bound = calibrate(
                *(p_hat, Observed(rng.geometric(risk))),
                budget=100,
                reference_p_hat=rng.permutation(p_hat),
                rng=rng,
            )
            test = 10 ** rng.normal(-5, 0.7, 5000)
            test_p_hat = test / 3 if kind == "low" else 10 ** rng.normal(-5, 0.7, 5000)
            lengths = bound.predict(test_p_hat).astype(float)
            rows.append(np.exp((lengths - 1) * np.log1p(-test)).mean())
        error = np.std(rows) / np.sqrt(repeats)
        assert np.mean(rows) >= 0.9 - 3 * error, kind
