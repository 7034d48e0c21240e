"""What the user can choose about rewordings."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.contract import SamplingOptions
from tailbound.core.options import Only, option
from tailbound.errors import UsageError

GROUP = "Rewordings (with --paraphrase)"
SAMPLING = Only(
    SamplingOptions,
    ("max_new_tokens", "temperature", "top_p", "top_k", "thinking", "extra_body"),
)
"""How the chat model is sampled; what it is told is ours."""


@dataclass(frozen=True, kw_only=True)
class ParaphraseOptions:
    """How many rewordings of each query are wanted, and which are taken."""

    count: int = option(
        "Rewordings of each query, beside its own wording.", default=25, group=GROUP
    )
    tries: int = option(
        "Replies to ask for at most, for each rewording wanted.", default=4, group=GROUP
    )
    min_similarity: float = option(
        "Cosine similarity to the query below which a rewording is off its meaning (0: not "
        "checked).",
        default=0.5,
        group=GROUP,
    )
    encoder: str = option(
        "Sentence encoder that says how similar they are: a name on the hub, or a folder.",
        default="sentence-transformers/all-MiniLM-L6-v2",
        group=GROUP,
    )

    def __post_init__(self) -> None:
        for name in ("count", "tries"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.min_similarity < 1:
            raise UsageError(f"--min-similarity must lie in [0, 1), not {self.min_similarity:g}")
