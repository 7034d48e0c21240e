"""Features of prompts whose model keeps its hidden states to itself: hashed words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import MissingExtraError
from tailbound.prompts import Prompt

DIMENSIONS = 512


class HashedWords:
    """A `FeatureSource` of words and pairs of words, hashed with signs into 512 dimensions.

    Counts are damped (1 + log), rows have length 1. Nothing is fitted, so new prompts need nothing
    but themselves. Raises `MissingExtraError` without scikit-learn. Source of the hashing:
    Weinberger et al. (2009), "Feature hashing for large scale multitask learning".
    """

    def __init__(self) -> None:
        try:
            from sklearn.feature_extraction.text import HashingVectorizer
        except ImportError as error:
            raise MissingExtraError("predicting from the words of prompts", "words") from error
        self._vectorizer = HashingVectorizer(n_features=DIMENSIONS, ngram_range=(1, 2), norm=None)

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Shape (len(prompts), 512)."""
        if not prompts:
            return np.empty((0, DIMENSIONS), np.float32)
        texts = ["\n".join(text for _, text in prompt.messages) for prompt in prompts]
        counts = self._vectorizer.transform(texts).toarray()
        damped = np.sign(counts) * np.log1p(np.abs(counts))
        length = np.linalg.norm(damped, axis=1, keepdims=True)
        found: NDArray[np.float32] = (damped / np.maximum(length, 1e-12)).astype(np.float32)
        return found
