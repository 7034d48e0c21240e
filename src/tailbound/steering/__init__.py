"""Unsafe versions of the target: directions of its residual stream, and what is done with them.

`Ablate` and `Add` are attached to a model and act row by row; `edited` changes weights instead.
`find_refusal_direction` and `find_persona_vector` find the directions, with their evidence.

Names are looked up when they are asked for, so that checks of files (`tailbound.steering.checks`,
`tailbound.steering.traits`) need no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.steering.direction import Direction
    from tailbound.steering.edits import edited, save_edited
    from tailbound.steering.interventions import Ablate, Add
    from tailbound.steering.lora import rank_one, save_adapters
    from tailbound.steering.modules import ARCHITECTURES, anatomy
    from tailbound.steering.persona import find_persona_vector
    from tailbound.steering.refusal import find_refusal_direction
    from tailbound.steering.traits import Trait

_HOMES = {
    "ARCHITECTURES": "modules",
    "Ablate": "interventions",
    "Add": "interventions",
    "Direction": "direction",
    "Trait": "traits",
    "anatomy": "modules",
    "edited": "edits",
    "find_persona_vector": "persona",
    "find_refusal_direction": "refusal",
    "rank_one": "lora",
    "save_adapters": "lora",
    "save_edited": "edits",
}

__all__ = [
    "ARCHITECTURES",
    "Ablate",
    "Add",
    "Direction",
    "Trait",
    "anatomy",
    "edited",
    "find_persona_vector",
    "find_refusal_direction",
    "rank_one",
    "save_adapters",
    "save_edited",
]

__getattr__ = lazy(__name__, _HOMES)
