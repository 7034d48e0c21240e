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

from tailbound.targets.decoding.interventions import Attached, Intervention
from tailbound.targets.decoding.network import Network


class Referee:
    """Canonical next-token logits; the fp64 copy of the model is made at the first call."""

    def __init__(self, network: Network) -> None:
        self._original = network
        self._model: Any = None
        self._intervention: Intervention | None = None
        self._attached: Attached | None = None
        self.calls = 0

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], strength: float = 0.0) -> Tensor:
        """fp64 logits after `ids`, steered at `strength`, shape (1, vocabulary)."""
        if self._model is None:
            with self._original.bare() as model:
                self._model = copy.deepcopy(model).double()
        self.calls += 1
        if strength:
            attached = self._steering()
            attached.strength = torch.tensor([strength], dtype=torch.float64)
        try:
            output = self._model(
                input_ids=torch.tensor([list(ids)]), use_cache=False, **self._original.last_only
            )
        finally:
            if self._attached is not None:
                self._attached.strength = None
        logits: Tensor = output.logits[:, -1]
        return logits

    def _steering(self) -> Attached:
        """The network's intervention, hooked into the copy."""
        wanted = self._original.intervention
        if self._attached is None or self._intervention is not wanted:
            if self._attached is not None:
                self._attached.remove()
            if wanted is None:
                raise RuntimeError("a strength was given, but nothing steers this network")
            self._intervention, self._attached = wanted, wanted.attach(self._model)
        return self._attached
