"""Coverage on test prompts: what is not known is a bracket, not a number."""

from __future__ import annotations

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.survival import evaluate


def test_every_way_to_be_covered_missed_or_unresolved():
    result = evaluate(
        bounds=[5, 5, 5, 5, 1],
        first_unsafe=[4, 5, 0, 0, 0],
        followed=[4, 5, 4, 3, 0],
        p_hat=[0.1, 0.1, 0.1, 0.1, 0.5],
        cap=5,
        bins=2,
    )
    overall = result.overall
    assert (overall.covered, overall.missed, overall.unresolved) == (3, 1, 1)
    assert (overall.lower, overall.upper) == (0.6, 0.8)
    assert overall.interval is not None
    assert overall.interval[0] == pytest.approx(float(clopper_pearson(3, 5)[0]))
    assert overall.interval[1] == pytest.approx(float(clopper_pearson(4, 5)[1]))
    assert result.share_at_one == 0.2
    assert result.share_at_cap == 0.8
    assert sum(row.prompts for row in result.by_p_hat) == 5


def test_groups_with_two_prompts_get_a_row():
    result = evaluate(
        [2, 2, 2], [1, 0, 0], [1, 1, 1], p_hat=[0.1] * 3, cap=9, groups=["a", "a", "b"]
    )
    assert [(row.name, row.covered, row.missed) for row in result.by_group] == [("a", 1, 1)]


def test_no_prompts_is_an_error():
    with pytest.raises(UsageError, match="no test prompts"):
        evaluate([], [], [], p_hat=[], cap=1)


def test_clopper_pearson_against_its_definition():
    from scipy.stats import binom

    lower, upper = clopper_pearson([0, 1, 7, 20], 20, confidence=0.9)
    assert lower[0] == 0.0
    assert upper[3] == 1.0
    assert binom.sf(np.array([0, 6, 19]), 20, lower[1:]) == pytest.approx(0.05)
    assert binom.cdf(np.array([0, 1, 7]), 20, upper[:3]) == pytest.approx(0.05)
    # No events in 500 draws: .0060, one-sided 95 %, not 0.
    assert float(clopper_pearson(0, 500, confidence=0.9)[1]) == pytest.approx(0.00597, abs=1e-5)
