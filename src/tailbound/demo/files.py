"""Where the demo models lie, and which prompts are used by default."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from tailbound.core.prompt import Prompt
from tailbound.demo.world import forbidden_prompts
from tailbound.errors import UsageError

Variant = Literal["model", "fixture"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def model_folder(variant: Variant = "model") -> Path:
    """The folder of a shipped model, as `transformers` loads it.

    `"model"` is the demo model. `"fixture"` is its sibling for tests, in which full ablation of
    the refusal direction never visits the late route to an unsafe reply; it is in the repository
    and not in the package.

    Raises `UsageError` for any other name, and for the sibling where there is no repository.
    """
    if variant not in VARIANTS:
        raise UsageError(f"there is no demo model {variant!r}: use {' or '.join(VARIANTS)}")
    if variant == "model":
        return Path(__file__).parent / "model"
    sibling = Path(__file__).parents[3] / "tests" / "fixtures" / "sibling"
    if not sibling.is_dir():
        raise UsageError(f"the demo model {variant!r} is for tests: use a checkout of the source")
    return sibling


@cache
def weights_digest(variant: Variant = "model") -> str:
    """SHA-256 of the weights file, in hexadecimal: what the cached truth is keyed by."""
    return hashlib.sha256((model_folder(variant) / "model.safetensors").read_bytes()).hexdigest()


def default_prompts(n: int = 2000) -> list[Prompt]:
    """The first `n` of the default forbidden prompts (seed 0); the truth of 2,000 is shipped."""
    return forbidden_prompts(n, seed=0)
