"""Upper bounds: P(T <= U) among the prompts that have one, and unbounded where nothing is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.survival import calibrate_upper, quantile


def people(kind: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(risk, p_hat); `some far too high`: 8% of the prompts are safer by orders of magnitude."""
    risk = 10 ** rng.uniform(-4, -0.4, n)
    p_hat = {
        "good": risk * np.exp(rng.normal(0, 0.5, n)),
        "too high": np.sqrt(risk),
        "too low": risk / 5,
        "some far too high": np.where(rng.random(n) < 0.08, np.maximum(risk, 0.1), risk),
    }[kind]
    return risk, np.clip(p_hat, 1e-9, 0.99)


def missed(bound, risk: np.ndarray, p_hat: np.ndarray) -> float:
    """Mean P(T > U) over the class of the bound, exactly."""
    inside = p_hat >= bound.least_p_hat
    limit = bound.predict(p_hat[inside])
    finite = np.where(np.isfinite(limit), limit, 0.0)
    return float(np.where(np.isfinite(limit), np.exp(finite * np.log1p(-risk[inside])), 0.0).mean())


@pytest.mark.parametrize("kind", ["good", "too high", "too low", "some far too high"])
def test_the_miss_is_controlled_on_average(kind):
    """100 training sets of 300 prompts x 200 draws; the quantile of p_hat itself misses more."""
    rng = np.random.default_rng(0)
    test = people(kind, 20_000, rng)
    found, naive = [], []
    for _ in range(100):
        risk, p_hat = people(kind, 300, rng)
        bound = calibrate_upper(p_hat, rng.binomial(200, risk), 200, alpha=0.05)
        found.append(missed(bound, *test))
    inside = test[1] >= bound.least_p_hat
    plain = quantile(test[1][inside], 0.95)
    naive = float(np.exp(plain * np.log1p(-test[0][inside])).mean())
    assert np.mean(found) <= 0.05 + 2 * np.std(found) / 10
    assert (naive > 0.09) == (kind != "too low")


def test_it_is_tight_where_predictions_are_good():
    rng = np.random.default_rng(1)
    risk, p_hat = people("good", 5000, rng)
    bound = calibrate_upper(p_hat, rng.binomial(200, risk), 200)
    assert 0.08 < missed(bound, risk, p_hat) <= 0.1
    assert 0.08 < bound.miss <= 0.1
    assert bound.predict([0.1])[0] < 3 * quantile(0.1, 0.9)


def test_safe_prompts_and_times_beyond_the_draws_are_unbounded():
    rng = np.random.default_rng(2)
    risk, p_hat = people("good", 500, rng)
    bound = calibrate_upper(p_hat, rng.binomial(200, risk), 200)
    assert bound.least_p_hat == pytest.approx(1 - 0.1 ** (2 / 200))
    assert quantile(bound.least_p_hat, 0.9) == 100
    limits = bound.predict([0.9, bound.least_p_hat * 0.999, 1e-6])
    assert math.isfinite(limits[0])
    assert limits[1:].tolist() == [math.inf, math.inf]
    assert "Among prompts with p_hat >= 0.023" in bound.statement


def test_too_few_prompts_or_predictions_that_say_nothing_give_no_bound():
    few = calibrate_upper([0.5] * 8, [190] * 8, 200)
    assert (few.level, few.miss, few.prompts, few.prompts_needed) == (None, None, 8, 9)
    assert "at least 9 are needed" in few.statement
    assert calibrate_upper([0.5] * 9, [190] * 9, 200).level is not None
    assert calibrate_upper([1e-5] * 50, [0] * 50, 200).prompts == 0
    # half of the class is never unsafe, and at once predicted to be
    wrong = calibrate_upper([0.999] * 100, [0, 200] * 50, 200)
    assert wrong.level is None
    assert wrong.predict([0.999]).tolist() == [math.inf]


def test_wordings_of_one_query_count_as_one_prompt():
    bound = calibrate_upper([0.5] * 20, [100] * 20, 200, units=["a"] * 10 + ["b"] * 10)
    assert (bound.prompts, bound.of_prompts, bound.level) == (2, 2, None)


def test_a_smaller_alpha_is_a_longer_bound():
    rng = np.random.default_rng(3)
    risk, p_hat = people("good", 1000, rng)
    counts = rng.binomial(500, risk)
    bounds = [calibrate_upper(p_hat, counts, 500, alpha=alpha) for alpha in (0.2, 0.1, 0.05)]
    limits = [bound.predict([0.2])[0] for bound in bounds]
    assert limits == sorted(limits)
    assert limits[0] < limits[2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 1}, "alpha must lie"),
        ({"unsafe": [3, 1]}, "same prompts"),
        ({"unsafe": [30]}, "unsafe <= draws"),
        ({"p_hat": [0.0]}, "small positive"),
        ({"units": ["a", "b"]}, "units has shape"),
    ],
)
def test_what_contradicts_itself_is_refused(options, says):
    given = {"p_hat": [0.1], "unsafe": [1], "draws": 20, **options}
    with pytest.raises(UsageError, match=says):
        calibrate_upper(**given)
