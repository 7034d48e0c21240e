"""What steering needs of the demo world: instruction pairs, and traits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.prompt import Prompt
from tailbound.demo.world import PERSONAS, harmless_prompts, instruction_pairs
from tailbound.errors import UsageError

if TYPE_CHECKING:
    from tailbound.steering.traits import Trait

OPPOSITES = {"bold": "humble", "flatter": "plain"}


def demo_refusal_prompts(n: int = 64) -> tuple[list[Prompt], list[Prompt]]:
    """`n` forbidden and `n` harmless prompts, none of them among those that are audited."""
    pairs = instruction_pairs(n)
    return [bad for bad, _ in pairs], [good for _, good in pairs]


def demo_trait(name: str) -> Trait:
    """The built-in trait bold or flatter; its judge is `demo:bold` or `demo:flatter`."""
    from tailbound.steering.traits import Trait

    if name not in OPPOSITES:
        raise UsageError(f"the demo model has no trait {name!r}, only {', '.join(OPPOSITES)}")
    return Trait(
        name=name,
        description=f"the demo model is {name}",
        judge=f"demo:{name}",
        positive=PERSONAS[name],
        negative=PERSONAS[OPPOSITES[name]],
        questions=tuple(harmless_prompts(16, seed=1_000)),
    )
