"""The seam between the engine and whatever steers a model: strengths per row, hooks behind them.

`tailbound.steering` holds the interventions; the engine only switches them on, row by row.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Attached(Protocol):
    """An intervention hooked into one model; off until it is given strengths.

    `strength`, shape (rows,), is read in every forward pass: row r is steered at strength[r] on all
    of its tokens, 0 leaves a row exactly as it is, and None switches the hooks off.
    """

    strength: Tensor | None

    def remove(self) -> None:
        """Take the hooks off the model."""
        ...


class Intervention(Protocol):
    """A way to steer, apart from any model: a value that can be attached to several."""

    @property
    def id(self) -> str:
        """Names it in records: the same intervention has the same id everywhere."""
        ...

    def attach(self, model: Any) -> Attached:
        """Hook it into a Hugging Face model, in that model's precision and on its device.

        Raises `UsageError` for a model whose modules are not known or whose width does not fit.
        """
        ...
