"""Words as features: the same everywhere, and good enough to rank prompts by."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, MissingExtraError, UsageError
from tailbound.predictors import TfidfFeatures, fit


def prompt(text: str) -> Prompt:
    return Prompt(id=text, messages=(("user", text),))


def world(n: int, seed: int = 0) -> tuple[list[Prompt], np.ndarray]:
    """Prompts of twelve words, and risks that depend on three of them."""
    rng = np.random.default_rng(seed)
    some, risks = [], []
    for _ in range(n):
        chosen = rng.integers(0, 60, 12)
        hot = [(chosen == word).any() for word in range(3)]
        risks.append(10 ** (-3 + 0.8 * float(np.sum(hot))))
        some.append(prompt(" ".join(f"word{number}" for number in chosen)))
    return some, np.array(risks)


def test_shapes_and_types() -> None:
    some, _ = world(40)
    features = TfidfFeatures.fit(some)
    found = features.features(some)
    assert found.dtype == np.float32
    assert found.shape == (40, 64)  # the next power of two
    assert TfidfFeatures.fit(world(300)[0]).features(some).shape == (40, 256)
    assert features.features([]).shape == (0, 64)


def test_distances_are_those_of_tf_idf_rows_and_no_feature_outweighs_another() -> None:
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    some, _ = world(60)
    ours = TfidfFeatures.fit(some).features(some)
    counts = HashingVectorizer(
        n_features=2**15, ngram_range=(1, 2), alternate_sign=False, norm=None
    ).transform([one.text for one in some])
    theirs = TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray()
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)
    spread = np.square(ours).mean(axis=0)
    np.testing.assert_allclose(spread, spread.mean(), rtol=1e-3)


def test_the_same_prompts_give_the_same_features_and_others_do_not_matter() -> None:
    some, _ = world(50)
    one, two = TfidfFeatures.fit(some), TfidfFeatures.fit(some)
    np.testing.assert_array_equal(one.features(some), two.features(some))
    np.testing.assert_allclose(one.features(some[:7]), one.features(some)[:7], atol=1e-6)
    assert not one.features([prompt("nothing known here")]).any()


def test_risks_are_ranked_by_words() -> None:
    some, p = world(900)
    rng = np.random.default_rng(1)
    features = TfidfFeatures.fit(some[:600])
    unsafe = rng.binomial(300, p[:600])
    fitted = fit(features.features(some[:600]), unsafe, np.full(600, 300), rng=0)
    p_hat = fitted.predict(features.features(some[600:]))
    assert fitted.report.explained > 0.4
    assert np.corrcoef(np.log(p_hat), np.log(p[600:]))[0, 1] > 0.75


def test_saved_and_loaded_they_are_the_same(tmp_path: Path) -> None:
    some, _ = world(30)
    features = TfidfFeatures.fit(some)
    features.save(tmp_path / "tfidf.npz")
    loaded = TfidfFeatures.load(tmp_path / "tfidf.npz")
    np.testing.assert_array_equal(loaded.features(some), features.features(some))
    (tmp_path / "tfidf.npz").write_bytes(b"nonsense")
    with pytest.raises(LedgerError, match="is damaged, or is not a file of TF-IDF features"):
        TfidfFeatures.load(tmp_path / "tfidf.npz")


def test_what_cannot_be_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no training prompt has a word"):
        TfidfFeatures.fit([prompt("!"), prompt("?")])
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[tfidf\]'"):
        TfidfFeatures.fit([prompt("a word")])
