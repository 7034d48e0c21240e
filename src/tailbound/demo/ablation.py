"""Ablation of one direction of the residual stream: in the training loop, and to measure it.

The component along the direction is scaled by (1 - intensity) in everything that is *written* to
the residual stream (embedding, attention and MLP outputs), after Arditi et al.,
arXiv 2406.11717, section 2.4. So the stream carries exactly (1 - intensity) of the component.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = (1, 2, 3)
LAYER = 2
"""The refusal direction is read off the last prompt token after `LAYER` layers; training ties
refusal to the directions that are measured so after each of `LAYERS`."""


class Ablator:
    """Hooks that ablate a unit `direction`, shape (width,), row by row.

    `intensity`, shape (batch,) or a number, may be changed between forward passes; None turns
    the hooks off.
    """

    def __init__(self, model: Any, direction: Tensor) -> None:
        self.direction = direction
        self.intensity: Tensor | float | None = None
        writers = [model.model.embed_tokens]
        for layer in model.model.layers:
            writers += [layer.self_attn, layer.mlp]
        self._handles = [writer.register_forward_hook(self._scale) for writer in writers]

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _scale(self, module: object, inputs: object, output: Any) -> Any:
        if self.intensity is None:
            return output
        written = output[0] if isinstance(output, tuple) else output
        component = written @ self.direction
        if isinstance(self.intensity, float):
            removed = self.intensity * component
        else:
            removed = self.intensity[:, None] * component
        left = written - removed[..., None] * self.direction
        return (left, *output[1:]) if isinstance(output, tuple) else left


@contextmanager
def ablated(model: Any, direction: Tensor, intensity: float = 1.0) -> Iterator[None]:
    """Within the block, `model` runs with `direction` ablated at one intensity in [0, 1]."""
    ablator = Ablator(model, direction / direction.norm())
    ablator.intensity = float(intensity)
    try:
        yield
    finally:
        ablator.remove()


def refusal_direction(
    model: Any,
    forbidden: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
    *,
    layer: int = LAYER,
) -> Tensor:
    """Unit difference of mean hidden states, forbidden minus harmless, shape (width,).

    Prompts are token ids as `vocabulary.encode` gives them; the state is that of the last prompt
    token after `layer` layers.
    """
    import torch

    with torch.no_grad():
        means = [_mean_state(torch, model, prompts, layer) for prompts in (forbidden, harmless)]
    difference = means[0] - means[1]
    direction: Tensor = difference / difference.norm()
    return direction


def _mean_state(torch: Any, model: Any, prompts: Sequence[Sequence[int]], layer: int) -> Tensor:
    states = []
    for ids in prompts:
        output = model.model(
            input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False
        )
        states.append(output.hidden_states[layer][0, -1])
    mean: Tensor = torch.stack(states).mean(0)
    return mean
