"""The features `punctuation`: exclamation marks and words of each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError


class Punctuation:
    """Two numbers per prompt; nothing is learnt, so nothing has to be kept."""

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Shape (len(prompts), 2), also for no prompts."""
        counts = [[prompt.text.count("!"), len(prompt.text.split())] for prompt in prompts]
        return np.array(counts, dtype=np.float32).reshape(len(prompts), 2)


def load(name: str) -> Punctuation:
    """The source of `--features punctuation`."""
    if name:
        raise UsageError(f"--features punctuation takes no name, not {name!r}: remove it")
    return Punctuation()
