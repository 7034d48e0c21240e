"""The text of a prompt, as predictors that see no hidden states read it."""

from __future__ import annotations

from collections.abc import Sequence

from tailbound.core.prompt import Prompt


def texts(prompts: Sequence[Prompt]) -> list[str]:
    """The contents of all messages of each prompt, one below the other."""
    return ["\n".join(content for _, content in prompt.messages) for prompt in prompts]
