"""The canonical decision where rounding could change a token.

fp32 logits differ by about 1e-5 between batch shapes. Where that could change a token, the row
is decided by one computation that depends on its tokens alone: a batch of one in fp64, the prompt
read once and the response after it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from tailbound.targets.decoding.batched_model import BatchedModel
from tailbound.targets.decoding.prompt_cache import Prefixes, Tokens

PROMPT_BYTES = 1 << 28
"""Memory for prompts that have been read in fp64, at each strength."""


class Fp64Fallback:
    """Canonical next-token logits; the fp64 copy of the model is made at the first call."""

    def __init__(self, network: BatchedModel) -> None:
        self._original = network
        self._network: BatchedModel | None = None
        self._prefixes: dict[float, Prefixes] = {}
        self.calls = 0

    @torch.inference_mode()
    def logits(self, prompt: Tokens, response: Sequence[int], strength: float = 0.0) -> Tensor:
        """fp64 logits after `prompt` and `response`, steered at `strength`, (1, vocabulary)."""
        network = self._copy()
        if strength and network.intervention is not self._original.intervention:
            # what was read under another intervention is of no use
            network.steer(self._original.intervention)
            self._prefixes = {0.0: self._prefixes[0.0]} if 0.0 in self._prefixes else {}
        if strength not in self._prefixes:
            self._prefixes[strength] = Prefixes(network, limit=PROMPT_BYTES, strength=strength)
        self.calls += 1
        prefix = self._prefixes[strength].get([prompt[:-1]])[0]
        columns = len(prompt) + len(response)
        cache = network.cache(rows=1, columns=columns)
        cache.load(0, prefix)
        logits = network.forward(
            torch.tensor([[prompt[-1], *response]]),
            torch.tensor([len(prompt) - 1]),
            cache,
            columns=columns,
            last=True,
            strength=torch.tensor([strength], dtype=torch.float64) if strength else None,
        )
        return logits[:, -1]

    def _copy(self) -> BatchedModel:
        """The fp64 copy of the network."""
        if self._network is None:
            with self._original.bare() as model:
                self._network = BatchedModel(copy.deepcopy(model).double(), check=False)
        return self._network
