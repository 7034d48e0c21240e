"""Splits by hash: which part a prompt falls into depends on its unit and the seed alone.

Neither the order of the file nor the other prompts in it matter, so prompts can be added to a
set, or taken out, without moving any of the rest from one part to another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tailbound.errors import UsageError
from tailbound.prompts.base import Prompt


class Split(NamedTuple):
    """The three parts of a prompt set, each in the order of the set."""

    train: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...]
    test: tuple[Prompt, ...]


def split(
    prompts: Iterable[Prompt], *, shares: Sequence[float] = (0.4, 0.4, 0.2), seed: int = 0
) -> Split:
    """Divide prompts into train, calibration and test by the hash of (seed, unit).

    `shares` are the expected shares of the three parts and add up to 1; the sizes are binomial
    around them. All wordings of one group fall into the same part.

    Raises `UsageError` where the shares are not three numbers >= 0 that add up to 1.
    """
    if (
        len(shares) != 3
        or not all(share >= 0 for share in shares)
        or not math.isclose(sum(shares), 1, abs_tol=1e-6)
    ):
        raise UsageError(
            "a split needs three shares >= 0 that add up to 1 (train, calibration, test), "
            f"not {', '.join(f'{share:g}' for share in shares)}"
        )
    first, second = shares[0], shares[0] + shares[1]
    if shares[2] == 0:
        second = 1.0
    parts: tuple[list[Prompt], list[Prompt], list[Prompt]] = ([], [], [])
    for prompt in prompts:
        u = _uniform("split", seed, prompt.unit)
        parts[0 if u < first else 1 if u < second else 2].append(prompt)
    return Split(*map(tuple, parts))


def one_per_group(prompts: Sequence[Prompt], *, seed: int = 0) -> tuple[Prompt, ...]:
    """One prompt of each unit, picked by the hash of (seed, id), in the order of the set.

    Rewordings of one query are not independent; one of each is. Which one is picked depends only
    on the wordings of the same group.
    """
    chosen: dict[str, tuple[float, str, Prompt]] = {}
    for prompt in prompts:
        mine = (_uniform("group", seed, prompt.id), prompt.id, prompt)
        held = chosen.get(prompt.unit)
        if held is None or mine[:2] < held[:2]:
            chosen[prompt.unit] = mine
    kept = {prompt.id for _, _, prompt in chosen.values()}
    return tuple(prompt for prompt in prompts if prompt.id in kept)


def _uniform(purpose: str, seed: int, name: str) -> float:
    """A uniform number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"tailbound/{purpose}/{seed}/{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
