"""The random numbers of a draw."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tailbound.targets.decoding.rng import draw_key, gumbels, uniforms


def test_pinned() -> None:
    """A change of these numbers changes every recorded run."""
    key = draw_key(0, "prompt", "train", 1)
    assert f"{key:032x}" == "d501540238b57c026dc1f08aeddcc462"
    np.testing.assert_array_equal(
        uniforms(key, 0, 4),
        [0.5261688362766329, 0.24734425880209854, 0.20867207688884404, 0.13185764864156257],
    )


def test_blocks_join_up() -> None:
    key = draw_key(7, "a", "b", 3)
    whole = uniforms(key, 0, 64)
    parts = [uniforms(key, start, 16) for start in range(0, 64, 16)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_words_of_philox() -> None:
    uniforms(1, 4, 3)  # leaves half-used words behind
    for key, start in ((draw_key(1, "p", "s", 2), 0), (2**128 - 1, 8), (5, 2**20)):
        words = np.random.Philox(key=key, counter=start // 4).random_raw(7)
        np.testing.assert_array_equal(uniforms(key, start, 7), (words >> np.uint64(11)) / 2.0**53)


def test_every_part_of_the_name_counts() -> None:
    names = [
        (0, "a", "b", 1),
        (1, "a", "b", 1),
        (0, "ab", "", 1),
        (0, "a", "b", 2),
        (0, "a", "c", 1),
    ]
    assert len({draw_key(*name) for name in names}) == len(names)


def test_uniform_on_the_unit_interval() -> None:
    values = np.concatenate([uniforms(draw_key(1, "p", "s", i), 0, 64) for i in range(2000)])
    assert values.min() >= 0
    assert values.max() < 1
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded with probability 1e-3
    sorted_values = np.sort(values)
    distance = np.abs(sorted_values - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert distance < 1.95 / np.sqrt(len(values))


def test_a_block_starts_at_a_counter() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        uniforms(1, 3, 4)


def test_gumbel_numbers() -> None:
    values = gumbels(
        np.concatenate([uniforms(draw_key(1, "p", "s", i), 0, 64) for i in range(999)])
    )
    assert stats.kstest(values, stats.gumbel_r.cdf).pvalue > 1e-3
    ends = gumbels(np.array([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]))
    assert np.isfinite(ends).all()
    assert (np.diff(ends) > 0).all()
    np.testing.assert_allclose(ends[2:], stats.gumbel_r.ppf([0.5, 1 - 2.0**-53]), rtol=1e-12)
