"""Who speaks: a network, how it is steered, and how it reads a prompt.

ModelVariant 0 of an engine is the target. Other variants are unsafe versions of it: the same
network steered, the same network under another system prompt, another network with the same
vocabulary, or the target's own distribution reshaped. A variant that takes over in the middle of a
response reads the prompt and all that was said in its own way, as if it had spoken from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.fp64_fallback import Fp64Fallback
from tailbound.targets.decoding.prompt_cache import Prefixes, Tokens
from tailbound.targets.decoding.reshaping import Reshape


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelVariant:
    """One variant; `prefixes` are read at the variant's own `strength`.

    `encode` gives the token ids of a prompt; `fallback` decides ambiguous tokens, None where draws
    need not be reproducible token by token. `recipe` makes it of the same target in another
    process, where that can be done. `reshape` turns the target's distribution into that of this
    variant, None where its network gives it.
    """

    name: str
    network: BatchedModel
    prefixes: Prefixes
    encode: Callable[[Prompt], Tokens]
    fallback: Fp64Fallback | None
    strength: float = 0.0
    reshape: Reshape | None = None
    recipe: Callable[[Any], ModelVariant] | None = None

    def continues(self, other: ModelVariant) -> bool:
        """Whether it reads everything as `other` does, so that it may take over as things are."""
        return self.prefixes is other.prefixes and self.encode == other.encode
