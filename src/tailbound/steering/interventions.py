r"""Ways to steer a model, as values: they are attached to a model, and then act row by row.

`Ablate` scales the component along a unit direction d in everything that is written to the residual
stream (the embeddings and the output of every writer, see `tailbound.steering.modules`) by 1 - s,

    x <- x - s d (d . x),

so that the stream carries exactly (1 - s) of the component. The published intervention projects at
the input of every block and again after every attention and MLP output; at s = 1 the two are the
same, below it the published one compounds over the layers, so that a deep model is hardly ever
steered half-way. `Add` adds s times a vector to the output of one layer.

Sources: Arditi et al., arXiv 2406.11717, sections 2.4 and 4.1 (ablation, and its form as an edit
of weights); Chen et al., arXiv 2507.21509, section 3 (persona vectors); Angell et al., arXiv
2604.22167 (intensities below 1).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailbound.errors import UsageError
from tailbound.steering.modules import anatomy


@dataclass(frozen=True, eq=False)
class Ablate:
    """Remove the share `intensity` of the component along `direction`, shape (width,).

    The direction may have any length but 0; it is made a unit vector.
    """

    direction: Tensor
    intensity: float = 1.0

    @property
    def id(self) -> str:
        """For example `ablate:1f0c9a2e3b4d5f60@1`."""
        return f"ablate:{_digest(unit_vector(self.direction))}@{self.intensity:g}"

    def attach(self, model: Any) -> AttachedHooks:
        """Hook it into `model`; off until strengths are given."""
        parts = anatomy(model)
        like = next(model.parameters())
        direction = _fitting(unit_vector(self.direction), parts.width, like)
        attached = AttachedHooks()

        def scale(written: Tensor, strength: Tensor) -> Tensor:
            share = (self.intensity * strength)[:, None]
            return written - (share * (written @ direction))[..., None] * direction

        attached.at_input(parts.layers[0], scale)
        for writer in parts.writers:
            attached.at_output(writer, scale)
        return attached


@dataclass(frozen=True, eq=False)
class Add:
    """Add `coefficient` times `vector`, shape (width,), to the output of layer `layer` (from 0)."""

    vector: Tensor
    layer: int
    coefficient: float = 1.0

    @property
    def id(self) -> str:
        """For example `add:1f0c9a2e3b4d5f60@layer2x4`."""
        return f"add:{_digest(self.vector.double())}@layer{self.layer}x{self.coefficient:g}"

    def attach(self, model: Any) -> AttachedHooks:
        """Hook it into `model`; off until strengths are given."""
        parts = anatomy(model)
        if not 0 <= self.layer < len(parts.layers):
            raise UsageError(
                f"the vector belongs to layer {self.layer}, but the model has layers 0 .. "
                f"{len(parts.layers) - 1}: it was made for another model"
            )
        like = next(model.parameters())
        vector = _fitting(self.coefficient * self.vector.double(), parts.width, like)
        attached = AttachedHooks()

        def shift(written: Tensor, strength: Tensor) -> Tensor:
            return written + strength[:, None, None] * vector

        attached.at_output(parts.layers[self.layer], shift)
        return attached


class AttachedHooks:
    """Hooks in one model; `strength` (rows,), one per row of the batch, or None for off.

    A row of strength 0 comes out exactly as without hooks.
    """

    def __init__(self) -> None:
        self.strength: Tensor | None = None
        self._handles: list[Any] = []

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def at_output(self, module: Any, change: Any) -> None:
        """Put `change(written, strength)` behind `module`, whose (first) output is written."""

        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            if self.strength is None:
                return output
            if isinstance(output, tuple):
                return (self._changed(change, output[0]), *output[1:])
            return self._changed(change, output)

        self._handles.append(module.register_forward_hook(hook))

    def at_input(self, module: Any, change: Any) -> None:
        """Put `change(written, strength)` before `module`, whose first argument is the stream."""

        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self.strength is None:
                return None
            if args:
                return (self._changed(change, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self._changed(change, kwargs["hidden_states"])}

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _changed(self, change: Any, written: Tensor) -> Tensor:
        assert self.strength is not None
        if len(self.strength) != len(written):
            raise RuntimeError(
                f"strengths of {len(self.strength)} rows in a forward pass of {len(written)}"
            )
        # half-precision streams are changed in fp32 and rounded once
        wide = torch.promote_types(written.dtype, torch.float32)
        changed: Tensor = change(written.to(wide), self.strength.to(wide))
        return changed.to(written.dtype)


def unit_vector(direction: Tensor) -> Tensor:
    """`direction` in fp64 at length 1; `UsageError` for one of length 0 or not finite."""
    length = direction.double().norm()
    if not (torch.isfinite(length) and length > 0):
        raise UsageError("the direction has length 0 or is not finite: find it anew")
    unit: Tensor = direction.double() / length
    return unit


def _fitting(vector: Tensor, width: int, like: Tensor) -> Tensor:
    if vector.shape != (width,):
        raise UsageError(
            f"the direction has shape {tuple(vector.shape)}, but the model's residual stream is "
            f"{width} wide: it was made for another model"
        )
    return vector.to(device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


def _digest(vector: Tensor) -> str:
    return hashlib.sha256(vector.float().cpu().numpy().tobytes()).hexdigest()[:16]
