"""Encoders of sentence-transformers: a transformer, a pooling and sometimes more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.hf_logging import quiet
from tailbound.huggingface.libraries import import_torch
from tailbound.huggingface.places import cached_copy, find_folder, only_in_cache, reason

MODULES = "modules.json"


def load_sentence_encoder(name: str, *, needed_by: str) -> Any:
    """The `SentenceTransformer` of that name on the hub, or in that folder.

    Raises `MissingExtraError`, naming `needed_by`, without sentence-transformers, and `UsageError`
    for what cannot be loaded, needs code of its own, or lacks weights.
    """
    try:
        import_torch()
        with quiet():
            from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(needed_by, "embeddings") from error
    shown = f"the embedding model {name}"
    folder = find_folder(name, who="embeddings: ")
    with quiet():
        place = folder or only_in_cache(name, shown, None, file=MODULES)
        try:
            encoder: Any = SentenceTransformer(str(place or name), trust_remote_code=False)
            lacking = _missing_weights(place or cached_copy(name, file=MODULES))
        except Exception as error:  # each of half a dozen libraries raises its own
            if "trust_remote_code" in str(error):
                raise UsageError(
                    f"{shown} comes with code of its own, which is not run here: use another"
                ) from error
            raise UsageError(f"cannot load {shown}: {reason(error)}") from error
    if lacking:
        others = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UsageError(
            f"{shown} has no weights for {lacking[0]}{others}, which would be random: give a whole "
            "encoder"
        )
    return encoder


def _missing_weights(folder: Path | None) -> list[str]:
    """Weights of the transformer that its checkpoint lacks; sentence-transformers only logs them.

    A pooler is not used by what pools tokens itself.
    """
    import transformers

    if folder is None:
        return []
    modules = folder / MODULES
    listed = json.loads(modules.read_text(encoding="utf-8")) if modules.is_file() else []
    inner = folder / str(listed[0]["path"]) if listed else folder
    if not (inner / "config.json").is_file():  # word vectors and the like have no transformer
        return []
    loaded: Any = transformers.AutoModel.from_pretrained(
        inner, trust_remote_code=False, weights_only=True, output_loading_info=True
    )
    return sorted(key for key in loaded[1]["missing_keys"] if "pooler." not in key)
