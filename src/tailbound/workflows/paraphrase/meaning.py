"""How near a wording is to its query, by a sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt


class Meaning(Protocol):
    """Something that tells how similar texts are."""

    def similarities(self, query: str, wordings: Sequence[str]) -> NDArray[np.float64]:
        """Cosine similarity of each wording to the query, shape (len(wordings),)."""
        ...


class EncodedMeaning:
    """Cosine similarity of sentence embeddings; texts are encoded once."""

    def __init__(self, encoder: str) -> None:
        """Load the encoder; raises as `EmbeddingFeatures` does."""
        from tailbound.predictors import EmbeddingFeatures

        self._source = EmbeddingFeatures(encoder, needed_by="--paraphrase")
        self._known: dict[str, NDArray[np.float32]] = {}

    def similarities(self, query: str, wordings: Sequence[str]) -> NDArray[np.float64]:
        """Cosine similarity of each wording to the query, shape (len(wordings),)."""
        new = [text for text in dict.fromkeys((query, *wordings)) if text not in self._known]
        found = self._source.features([Prompt(id=one, messages=(("user", one),)) for one in new])
        self._known.update(zip(new, found, strict=True))
        if not wordings:
            return np.empty(0)
        near = np.stack([self._known[text] for text in wordings]) @ self._known[query]
        return np.asarray(near, dtype=np.float64)


class AnyMeaning:
    """Every wording passes: nothing was measured."""

    def similarities(self, query: str, wordings: Sequence[str]) -> NDArray[np.float64]:
        """NaN for each wording, shape (len(wordings),)."""
        return np.full(len(wordings), np.nan)
