"""TF-IDF features: words and pairs of words, for models whose hidden states are out of reach.

Words are hashed, so that there is no vocabulary to keep. Their damped counts are weighted by how
rare they are among the training prompts, scaled to length 1, and projected on the leading singular
vectors of the training prompts.

The predictor scales every feature to variance 1, which would give the last singular vector, all
noise, the weight of the first. So the coordinates are mixed by a Hadamard matrix: distances stay as
they are, and every feature gets the same variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, UsageError
from tailbound.predictors.arrays import load_arrays, save_arrays
from tailbound.predictors.prompt_texts import texts
from tailbound.predictors.registry import FeatureProvider
from tailbound.runs.layout import TFIDF

SCHEMA_VERSION = 1

HASHES = 2**15
DIMENSIONS = 256
"""Of the features, a power of two; fewer where there are fewer training prompts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TfidfFeatures:
    """A `FeatureSource` fitted on training prompts.

    `columns` are the hashes that occur there, shape (m,), `weights` their inverse document
    frequencies, shape (m,), and `projection` maps to the features, shape (m, dimensions).
    """

    columns: NDArray[np.int32]
    weights: NDArray[np.float32]
    projection: NDArray[np.float32]

    @classmethod
    def fit(cls, prompts: Sequence[Prompt]) -> TfidfFeatures:
        """Learn weights and projection from the training prompts; always the same for the same.

        Raises `MissingExtraError` without scikit-learn, and `UsageError` where no prompt has a
        word.
        """
        counts = _counts(prompts)
        found = np.bincount(counts.indices, minlength=HASHES)
        columns = np.flatnonzero(found).astype(np.int32)
        if columns.size == 0:
            raise UsageError("no training prompt has a word: --features tfidf has nothing to read")
        weights = (np.log((1 + len(prompts)) / (1 + found[columns])) + 1).astype(np.float32)
        bare = cls(columns=columns, weights=weights, projection=np.empty((0, 0), np.float32))
        return cls(
            columns=columns,
            weights=weights,
            projection=_projection(bare._rows(counts)),
        )

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Shape (len(prompts), dimensions); zeros where a prompt has no known word."""
        found = self._rows(_counts(prompts)) @ self.projection
        return np.asarray(found, dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write an `.npz` file, atomically."""

        save_arrays(
            path,
            {"schema": SCHEMA_VERSION},
            columns=self.columns,
            weights=self.weights,
            projection=self.projection,
        )

    @classmethod
    def load(cls, path: Path) -> TfidfFeatures:
        """Inverse of `save`; raises as `load_arrays` does."""
        _, arrays = load_arrays(path, SCHEMA_VERSION, "a file of TF-IDF features")
        return cls(**arrays)

    def _rows(self, counts: Any) -> Any:
        """Weighted rows of length 1 (0 where nothing is known), sparse, shape (prompts, m)."""
        from scipy.sparse import diags_array

        rows = counts[:, self.columns].astype(np.float32)
        rows.data = 1 + np.log(rows.data)
        rows = rows @ diags_array(self.weights)
        length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        return (diags_array(scale) @ rows).tocsr()


def _counts(prompts: Sequence[Prompt]) -> Any:
    """How often each hash occurs in each prompt, a sparse matrix (prompts, HASHES)."""
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError as error:
        raise MissingExtraError("--features tfidf", "tfidf") from error
    from scipy.sparse import csr_array

    if not prompts:
        return csr_array((0, HASHES), dtype=np.float64)
    hashing = HashingVectorizer(
        n_features=HASHES, ngram_range=(1, 2), alternate_sign=False, norm=None
    )
    return csr_array(hashing.transform(texts(prompts)))


def _projection(rows: Any) -> NDArray[np.float32]:
    """Leading right singular vectors, mixed, shape (m, dimensions)."""
    from scipy.linalg import hadamard
    from sklearn.utils.extmath import randomized_svd

    rank = min(DIMENSIONS, *rows.shape)
    _, _, right = randomized_svd(rows, n_components=rank, n_iter=7, random_state=0)
    size = 1 << (rank - 1).bit_length()
    mixing = hadamard(size)[:rank] / np.sqrt(size)
    return np.asarray(right.T @ mixing, dtype=np.float32)


def _check(name: str) -> str:
    if name:
        raise UsageError(f"--features tfidf takes no name, not {name!r}: remove it")
    return name


def _unfitted(name: str) -> TfidfFeatures:
    raise UsageError("tfidf features are fitted on training prompts: use fit")


provider = FeatureProvider(
    load=_unfitted,
    fit=lambda name, prompts: TfidfFeatures.fit(prompts),
    store=lambda source, folder: source.save(folder / TFIDF),
    restore=lambda name, folder: TfidfFeatures.load(folder / TFIDF),
    check=_check,
    extra="tfidf",
    files=".",
    description="tfidf: words and pairs of words of the prompts",
)
