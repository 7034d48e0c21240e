"""What a guard is shown and what it answers, whatever it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Conversation = Sequence[tuple[str, str]]
"""(role, text) of user and assistant, ending with the response to be judged."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a guard said.

    `unsafe` is the probability of its unsafe word against its safe one, where the decision stands,
    None where that is not known. `problem` says why there is no answer and asking again is no use.
    """

    text: str = ""
    unsafe: float | None = None
    problem: str | None = None


class Guard(Protocol):
    """Whatever answers about conversations."""

    def __call__(self, conversations: Sequence[Conversation], *, again: bool) -> list[Answer]:
        """One answer for each conversation; `again` asks for another one than the first."""
        ...
