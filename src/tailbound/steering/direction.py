"""A direction of the residual stream, with where it comes from and why it was chosen.

On disk: DIR/direction.safetensors (the vector) and DIR/direction.json (everything else).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tailbound.errors import LedgerError, UsageError
from tailbound.steering.checks import NOTE_FILE, NOTED, SCHEMA_VERSION, VECTOR_FILE, read_note
from tailbound.steering.interventions import Ablate, Add
from tailbound.storage.files import make_folder, write_atomically, write_json


@dataclass(frozen=True, eq=False, kw_only=True)
class Direction:
    """A vector (width,) of the stream after layer `layer` (0: the embeddings).

    `kind` is "refusal" (to be ablated) or "persona:NAME" (to be added with `coefficient`).
    `position` is the token that it was read at, counted from the end of the prompt, None for a mean
    over responses. `model`, `revision` and `contract` name what it was made for, `evidence` says
    why this one was chosen.
    """

    kind: str
    vector: Tensor
    layer: int
    position: int | None
    coefficient: float
    model: str
    revision: str | None
    contract: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def intervention(self) -> Ablate | Add:
        """What is done with it at full strength."""
        if self.kind == "refusal":
            return Ablate(self.vector)
        # the stream after layer l is the output of the l-th layer, number l - 1
        return Add(self.vector, self.layer - 1, self.coefficient)

    def save(self, folder: Path) -> None:
        """Write both files, each in full or not at all."""
        from safetensors.torch import save

        make_folder(folder)
        tensors = {"direction": self.vector.detach().float().cpu().contiguous()}
        data = save(tensors)
        write_atomically(folder / VECTOR_FILE, data)
        write_json(
            folder / NOTE_FILE,
            {
                "schema": SCHEMA_VERSION,
                "width": int(self.vector.numel()),
                "sha256": hashlib.sha256(data).hexdigest(),
                **{key: getattr(self, key) for key in NOTED},
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Direction:
        """The direction saved in `folder`; `UsageError` where there is none that can be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        note = read_note(folder)
        try:
            data = (folder / VECTOR_FILE).read_bytes()
            vector = load(data)["direction"]
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise UsageError(f"the direction in {folder} cannot be read: {error}") from error
        width, values = note["width"], {key: note[key] for key in NOTED}
        if vector.shape == (width,) and note.get("sha256") != hashlib.sha256(data).hexdigest():
            raise LedgerError(
                f"{folder / VECTOR_FILE} is damaged, or belongs to another {NOTE_FILE}: make it "
                "again with tailbound steer"
            )
        if vector.shape != (width,):
            raise UsageError(
                f"{folder / VECTOR_FILE} has shape {tuple(vector.shape)}, and {NOTE_FILE} says "
                f"({width},): they belong to different directions"
            )
        return cls(vector=torch.as_tensor(vector), **values)

    def notice_for(self, model: str, revision: str | None) -> str | None:
        """A line for people if it was made for another model or revision: valid, but less good."""
        if (self.model, self.revision) == (model, revision):
            return None
        made = f"{self.model}" + (f" at {self.revision}" if self.revision else "")
        return (
            f"the direction was made for {made}, not for this model: estimates stay valid, but may "
            "be noisier"
        )
