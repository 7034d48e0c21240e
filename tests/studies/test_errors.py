"""Errors, costs and z-scores against values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.studies import (
    Truth,
    deviation,
    draws_for,
    plain_draws,
    plain_error,
    pooled_z,
    relative_error,
    tokens_for,
)

EXACT = Truth.computed(0.01, 0.01)


def test_plain_monte_carlo_has_the_error_of_a_binomial() -> None:
    rng = np.random.default_rng(0)
    seen = rng.binomial(400, 0.05, 200_000) / 400
    spread = math.sqrt(np.mean((seen / 0.05 - 1) ** 2))
    assert plain_error(0.05, 400) == pytest.approx(spread, rel=0.01)


def test_plain_draws_are_those_at_which_the_error_is_reached() -> None:
    assert plain_draws(0.001) == pytest.approx(0.999 / 0.001 / 0.09)
    draws = plain_draws(0.02, wanted=0.5)
    assert plain_error(0.02, 1) / math.sqrt(draws) == pytest.approx(0.5)


def test_against_an_exact_truth_errors_are_distances() -> None:
    # off by +50 %, -100 %, 0
    found = relative_error([0.015, 0.0, 0.01], EXACT, standard_errors=[0.001, None, 0.001])
    assert found == pytest.approx(math.sqrt((0.25 + 1) / 3))


def test_against_brute_force_errors_are_standard_errors_over_the_risk() -> None:
    truth = Truth.counted(20, 2_000)
    assert truth.risk == 0.01
    found = relative_error([0.05, 0.02], truth, standard_errors=[0.003, 0.004])
    assert found == pytest.approx(math.sqrt((0.09 + 0.16) / 2))
    assert relative_error([0.0], truth, standard_errors=[None]) is None


def test_without_a_known_risk_nothing_is_known() -> None:
    truth = Truth.counted(0, 500)
    assert not truth.known
    assert truth.upper == pytest.approx(1 - 0.025 ** (1 / 500))
    assert relative_error([0.01], truth, standard_errors=[0.001]) is None
    assert deviation([0.01], truth, standard_errors=[0.001]).z is None
    with pytest.raises(UsageError, match="at least one draw"):
        Truth.counted(0, 0)


def test_draws_for_an_error_pool_all_numbers_of_draws() -> None:
    # n e^2 is 36 and 18: 27 on average, over .09
    assert draws_for([0.6, 0.3], [100, 200]) == pytest.approx(300)
    assert draws_for([0.6, None], [100, 200]) is None
    assert draws_for([], []) is None


def test_tokens_count_once_what_more_draws_do_not_add_to() -> None:
    # 2 prompts, 50 draws each: 400 tokens once and 2,000 for 100 draws
    assert tokens_for(100, draws=50, tokens=2_400, once=400, prompts=2) == 200 + 2_000
    assert tokens_for(50, draws=50, tokens=2_400, once=400, prompts=2) == 1_200


def test_a_deviation_adds_the_noise_of_both() -> None:
    truth = Truth.counted(100, 1_000)
    one = deviation([0.13], truth, standard_errors=[0.01])
    assert one.z == pytest.approx(0.03 / math.sqrt(0.01**2 + 0.1 * 0.9 / 1_000))
    two = deviation([0.012, 0.016], EXACT, standard_errors=[0.003, 0.004])
    assert two.estimate == pytest.approx(0.014)
    assert two.standard_error == pytest.approx(0.0025)
    assert two.z == pytest.approx(1.6)
    assert deviation([0.0], EXACT, standard_errors=[None]).z is None


def test_a_plain_run_without_hits_has_the_noise_that_the_truth_implies() -> None:
    found = deviation([0.0], EXACT, standard_errors=[None], plain_draws=99)
    assert found.standard_error == pytest.approx(0.01)
    assert found.z == pytest.approx(-1.0)


def test_pooled_scores_have_variance_one() -> None:
    assert pooled_z([]) is None
    assert pooled_z([2.0] * 4) == 4.0
