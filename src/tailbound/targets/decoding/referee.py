"""The canonical decision where rounding could change a token.

fp32 logits differ by about 1e-5 between batch shapes. Where that could change a token, the row
is decided by one computation that depends on its tokens alone: batch of one, full prefix, fp64.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Referee:
    """Canonical next-token logits; the fp64 copy of the model is made at the first call."""

    def __init__(self, model: Any) -> None:
        self._original = model
        self._model: Any = None
        self.calls = 0

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """fp64 logits after `ids`, shape (1, vocabulary)."""
        if self._model is None:
            self._model = copy.deepcopy(self._original).double()
        self.calls += 1
        output = self._model(input_ids=torch.tensor([list(ids)]), use_cache=False)
        logits: Tensor = output.logits[:, -1]
        return logits
