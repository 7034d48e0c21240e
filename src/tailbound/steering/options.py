"""What the searches for directions can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RefusalOptions:
    """What a refusal direction is found from, and whether edited weights are saved too."""

    harmful: Path | None = option(
        "File of prompts that the model refuses (default: examples of our own).", default=None
    )
    harmless: Path | None = option(
        "File of prompts that the model answers (default: examples of our own).", default=None
    )
    layer: int | None = option(
        "Take the direction after this layer, from 1 (default: chosen by its effects).",
        default=None,
    )
    position: int | None = option(
        "Take the direction at this token of the prompt's end, -1 for the last (default: chosen).",
        default=None,
    )
    save_model: Path | None = option(
        "Also write a checkpoint with edited weights to this folder.", default=None
    )
    intensity: float | None = option(
        "Strength of the saved edit in (0, 1]; 1 (default) removes the direction entirely.",
        default=None,
    )

    export: Literal["lora"] | None = option(
        "Also write the ablation at intensities .1, .2, .., 1 as LoRA adapters: lora.", default=None
    )

    def __post_init__(self) -> None:
        check_choices(self)
        if self.layer is not None and self.layer < 1:
            raise UsageError(f"--layer must be at least 1, not {self.layer}")
        if self.position is not None and self.position > -1:
            raise UsageError(
                f"--position counts from the end, -1 for the last token, not {self.position}"
            )
        if self.intensity is not None and not 0 < self.intensity <= 1:
            raise UsageError(f"--intensity must lie in (0, 1], not {self.intensity:g}")
        if self.intensity is not None and self.save_model is None:
            raise UsageError("--intensity is that of the edited checkpoint: add --save-model DIR")

    @property
    def share(self) -> float:
        """How much of the direction the saved edit removes."""
        return 1.0 if self.intensity is None else self.intensity


@dataclass(frozen=True, kw_only=True)
class PersonaOptions:
    """How the vector of a trait is looked for."""

    coherence: str | None = option(
        "Judge of coherence (default: the model's own log-probabilities).", default=None
    )
    replies: int = option("Replies per question and system prompt.", default=4)
    seed: int = option("Random seed.", default=0, group="Run")

    def __post_init__(self) -> None:
        if self.replies < 1:
            raise UsageError(f"--replies must be at least 1, not {self.replies}")
        if self.seed < 0:
            raise UsageError(f"--seed must not be negative, not {self.seed}")
