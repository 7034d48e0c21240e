"""The seam between the audit and the model under audit.

A target turns requests into draws. It pulls its work from a `DrawSource` whenever it has room,
so that a local model keeps its batch full and a server its connections busy, while the audit
decides, draw by draw, what is still worth asking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from tailbound.core.contract import Draw, DrawRequest, SamplingContract
from tailbound.core.prompt import Prompt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DrawSource(Protocol):
    """Where a target gets its work from."""

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        """Up to `limit` requests.

        An empty answer means "nothing at present". With `wait` (the target has nothing else to
        do) the call blocks until there is work, and an empty answer means "finished".
        """
        ...


class Target(Protocol):
    """A model under audit, with its sampling contract fixed."""

    @property
    def contract(self) -> SamplingContract:
        """What p(response | prompt) means here."""
        ...

    @property
    def reproducible(self) -> str:
        """`"draw"`: the same key gives the same tokens; `"distribution"`: only the same law."""
        ...

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws in the order in which they finish, until `source` is finished."""
        ...

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Tokens of each prompt as the model sees it, shape (len(prompts),)."""
        ...
