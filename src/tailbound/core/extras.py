"""Which optional parts are installed, found out without importing them."""

from __future__ import annotations

from importlib.util import find_spec

from tailbound.errors import MissingExtraError

MODULES = {
    "hf": ("torch", "transformers", "safetensors", "tokenizers"),
    "gguf": ("gguf", "accelerate"),
    "lora": ("peft",),
    "endpoint": ("aiohttp",),
    "data": ("datasets",),
    "embeddings": ("sentence_transformers",),
    "tfidf": ("sklearn",),
    "import": ("inspect_ai",),
    "inspect": ("inspect_ai",),
    "plot": ("matplotlib",),
    "ray": ("ray",),
}
"""The modules that each extra of the package brings."""


def require(feature: str, extra: str) -> None:
    """Raise `MissingExtraError` where a module of `extra`, which `feature` needs, is missing."""
    if any(find_spec(module) is None for module in MODULES[extra]):
        raise MissingExtraError(feature, extra)
