"""Unsafe versions of the target: directions of its residual stream, and what is done with them.

`Ablate` and `Add` are attached to a model and act row by row; `edited` changes weights instead.
`find_refusal_direction` and `find_persona_vector` find the directions, with their evidence.
"""

from tailbound.steering.direction import Direction
from tailbound.steering.edits import edited, save_edited
from tailbound.steering.interventions import Ablate, Add
from tailbound.steering.modules import ARCHITECTURES, anatomy
from tailbound.steering.persona import Trait, find_persona_vector
from tailbound.steering.refusal import find_refusal_direction

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
    "save_edited",
]
