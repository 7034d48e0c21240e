from pathlib import Path

import numpy as np
import pytest

from tailbound.errors import LedgerError, UsageError
from tailbound.predictors import NoveltyDetector


def sample(rng: np.random.Generator, size: int, dimension: int) -> np.ndarray:
    """Two clusters on a few directions of a larger space."""
    mixing = np.random.default_rng(99).standard_normal((3, dimension))
    hidden = rng.standard_normal((size, 3)) + 4 * rng.integers(0, 2, (size, 1))
    return hidden @ mixing + 0.1 * rng.standard_normal((size, dimension))


@pytest.mark.parametrize("dimension", [2, 30, 400])
def test_prompts_of_the_same_kind_are_rarely_unlike(dimension: int) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(8):
        novelty = NoveltyDetector.fit(sample(rng, 400, dimension))
        shares.append(novelty.unlike(sample(rng, 200, dimension)).mean())
    assert np.mean(shares) < 0.02


def test_p_values_are_uniform_for_prompts_of_the_same_kind() -> None:
    rng = np.random.default_rng(1)
    p = np.concatenate(
        [NoveltyDetector.fit(sample(rng, 80, 50)).p_values(sample(rng, 20, 50)) for _ in range(200)]
    )
    assert ((p > 0) & (p <= 1)).all()
    for u in (0.05, 0.1, 0.25, 0.5, 0.9):
        assert (p <= u).mean() <= u + 0.02
        assert (p <= u).mean() >= u - 0.05


def test_what_is_elsewhere_is_unlike() -> None:
    rng = np.random.default_rng(2)
    x = sample(rng, 500, 50)
    novelty = NoveltyDetector.fit(x)
    outside = sample(rng, 10, 50) + rng.standard_normal(50) * 2
    far = sample(rng, 10, 50) * 20
    for other in (outside, far):
        assert novelty.unlike(other).all()


def test_prompts_seen_in_calibration_are_familiar() -> None:
    x = sample(np.random.default_rng(3), 300, 40)
    assert NoveltyDetector.fit(x).unlike(x).mean() < 0.03


def test_small_sets_flag_only_what_is_beyond_everything() -> None:
    rng = np.random.default_rng(4)
    novelty = NoveltyDetector.fit(sample(rng, 10, 5))
    assert novelty.unlike(sample(rng, 5, 5) + 1000).all()
    with pytest.raises(UsageError, match="at least 4 calibration prompts, not 3"):
        NoveltyDetector.fit(sample(rng, 3, 5))


def test_constant_features_are_familiar_to_themselves() -> None:
    novelty = NoveltyDetector.fit(np.ones((30, 4)))
    assert not novelty.unlike(np.ones((3, 4))).any()


def test_large_sets_are_thinned() -> None:
    x = sample(np.random.default_rng(5), 9000, 8)
    novelty = NoveltyDetector.fit(x)
    assert len(novelty.neighbours) == len(novelty.usual) == 2000


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    novelty = NoveltyDetector.fit(sample(rng, 100, 20))
    novelty.save(tmp_path / "novelty.npz")
    loaded = NoveltyDetector.load(tmp_path / "novelty.npz")
    new = sample(rng, 50, 20) * 1.5
    np.testing.assert_array_equal(loaded.p_values(new), novelty.p_values(new))
    with pytest.raises(UsageError, match="have 20 features, and these have 3"):
        loaded.unlike(np.ones((2, 3)))
    (tmp_path / "novelty.npz").write_bytes(b"")
    with pytest.raises(LedgerError, match="is not a novelty file"):
        NoveltyDetector.load(tmp_path / "novelty.npz")
