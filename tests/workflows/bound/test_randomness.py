"""Streams of randomness of a bound: a run on record is resumed with its own numbers."""

from __future__ import annotations

import pytest

from tailbound.workflows.bound.randomness import rng_for


@pytest.mark.parametrize(
    ("purpose", "first"),
    [
        ("selection", [4084441759, 2462196670]),
        ("folds", [16060276, 844530343]),
        ("importance/training", [903303792, 3290976249]),
        ("importance/calibration", [3181986821, 1973493059]),
        ("importance/test", [3498103153, 1063309421]),
        ("importance/cross-check", [4147828089, 2527996309]),
    ],
)
def test_streams_are_those_of_runs_on_record(purpose: str, first: list[int]) -> None:
    assert rng_for(3, purpose).integers(0, 2**32, 2).tolist() == first
