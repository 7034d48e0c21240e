"""Hashed words as features."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tailbound.errors import MissingExtraError
from tailbound.predictors import HashedWords, fit
from tailbound.prompts import Prompt


def prompt(number: int, text: str) -> Prompt:
    return Prompt(id=f"p{number}", messages=(("user", text),))


def test_rows_have_length_one_and_depend_on_their_words_alone():
    some = [prompt(0, "how to bake bread"), prompt(1, "how to bake a cake"), prompt(2, "kill it")]
    found = HashedWords().features(some)
    assert found.shape == (3, 512)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(HashedWords().features(some[::-1])[::-1], found)
    assert found[0] @ found[1] > found[0] @ found[2]
    assert HashedWords().features([]).shape == (0, 512)
    assert np.isfinite(HashedWords().features([prompt(3, "!!")])).all()


def test_a_predictor_learns_from_them():
    """Prompts with the word "steal" have 20 of 50 unsafe draws, others 1 of 50."""
    rng = np.random.default_rng(0)
    things = [f"thing{n}" for n in range(40)]
    verbs = rng.random(200) < 0.5
    some = [
        prompt(n, f"how to {'steal' if bad else 'paint'} the {things[n % 40]}")
        for n, bad in enumerate(verbs)
    ]
    unsafe = rng.binomial(50, np.where(verbs, 0.4, 0.02))
    features = HashedWords().features(some)
    p_hat = fit(features[:150], unsafe[:150], np.full(150, 50), rng=0).predict(features[150:])
    assert p_hat[verbs[150:]].min() > 3 * p_hat[~verbs[150:]].max()


def test_without_scikit_learn_there_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtraError, match="words"):
        HashedWords()
