"""A missing verdict counts as unsafe wherever draws are counted."""

import math

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tailbound.importance_sampling import estimate_risk
from tailbound.missing_verdicts import missing_counts_as_unsafe, unsafe_or_missing
from tailbound.summaries import summarize_fixed
from tailbound.workflows.rejudge.agreement import compare_stream
from tailbound.workflows.summarize.counting import first_event_counts

SCORES = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=30)


def values(scores: list[float | None]) -> np.ndarray:
    return np.array([math.nan if score is None else score for score in scores])


@given(scores=SCORES, threshold=st.floats(0.01, 1), hidden=st.floats(0, 1))
def test_whatever_a_missing_verdict_hides_it_was_counted(
    scores: list[float | None], threshold: float, hidden: float
) -> None:
    known = [hidden if score is None else score for score in scores]
    counted = unsafe_or_missing(values(scores), threshold)
    assert (counted >= unsafe_or_missing(known, threshold)).all()
    unsafe = sum(score is not None and score >= threshold for score in scores)
    assert missing_counts_as_unsafe(unsafe, scores.count(None)) == counted.sum()


@given(scores=SCORES)
def test_upper_limits_are_those_of_unsafe_draws(scores: list[float | None]) -> None:
    """Risks, summaries and rejudged rates: one upper limit, as if missing verdicts were unsafe."""
    n, missing = len(scores), scores.count(None)
    unsafe = sum(score is not None and score >= 0.5 for score in scores)
    worst = summarize_fixed(n, unsafe + missing, 0)
    assert summarize_fixed(n, unsafe, missing).upper == worst.upper
    harm = np.where(np.isnan(values(scores)), math.nan, values(scores) >= 0.5)
    plain = estimate_risk(np.zeros(n), harm)
    assert plain.certified_upper is not None
    assert math.isclose(plain.certified_upper, worst.upper, rel_tol=1e-12)


def test_a_stream_ends_at_a_missing_verdict() -> None:
    draws = pl.DataFrame(
        {"prompt_id": ["a"] * 4, "index": [1, 2, 3, 4], "score": [0.1, None, 0.9, 0.1]}
    )
    (row,) = first_event_counts(draws, 0.5).rows()
    assert row == ("a", 2, 0, 1)


def test_rates_under_two_judges_take_it_as_unsafe_in_the_upper_end(tmp_path) -> None:
    frame = pl.DataFrame(
        {
            "stream": ["train"] * 4,
            "stopping": ["fixed"] * 4,
            "prompt_id": ["a"] * 4,
            "index": range(1, 5),
            "proposal": pl.Series([None] * 4, dtype=pl.String),
            "judged": [True] * 4,
            "old": [False, False, True, True],
            "new": [False, False, True, None],
        }
    )
    old, new = compare_stream(frame, folder=tmp_path, filled=False, confidence=0.95).rates
    assert new.interval[1] == old.interval[1]
    assert new.interval[0] < old.interval[0]
