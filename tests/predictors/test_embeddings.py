"""Sentence embeddings as features, by the small model that a package carries."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, UsageError
from tailbound.predictors import EmbeddingFeatures

pytestmark = pytest.mark.filterwarnings("default")  # sentence-transformers' own


def prompt(text: str) -> Prompt:
    return Prompt(id=text, messages=(("user", text),))


def test_meaning_is_near_where_words_are_not() -> None:
    source = EmbeddingFeatures()
    found = source.features(
        [prompt("How do I steal a car?"), prompt("Ways of taking autos unlawfully"), prompt("Soup")]
    )
    assert found.shape == (3, 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
    assert source.features([]).shape == (0, 384)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"cannot load the embedding model ") as caught:
        EmbeddingFeatures(str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tailbound\[embeddings\]'"):
        EmbeddingFeatures()
