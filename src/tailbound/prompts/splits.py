"""Splits by hash: the units of a prompt set in the order of their hashes, cut at rounded shares.

The order of the file does not matter, and the sizes of the parts are the shares to within one. A
prompt that is added to a set, or taken out, moves at most one other unit across each cut.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError


class Split(NamedTuple):
    """The three parts of a prompt set, each in the order of the set."""

    train: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...]
    test: tuple[Prompt, ...]


def split(
    prompts: Iterable[Prompt], *, shares: Sequence[float] = (0.4, 0.4, 0.2), seed: int = 0
) -> Split:
    """Divide prompts into train, calibration and test by the hash of (seed, unit).

    `shares` are the shares of the units in the three parts and add up to 1 (`part_sizes`). All
    wordings of one group are one unit and fall into the same part.

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
    prompts = tuple(prompts)
    units = sorted({prompt.unit for prompt in prompts}, key=lambda unit: _order(seed, unit))
    first, second, _ = part_sizes(len(units), shares)
    place = {unit: number for number, unit in enumerate(units)}
    parts: tuple[list[Prompt], list[Prompt], list[Prompt]] = ([], [], [])
    for prompt in prompts:
        rank = place[prompt.unit]
        parts[0 if rank < first else 1 if rank < first + second else 2].append(prompt)
    return Split(*map(tuple, parts))


def part_sizes(units: int, shares: Sequence[float]) -> tuple[int, int, int]:
    """How many of so many units are in train, calibration and test.

    The two cuts are `units` times the share of what stands before them, rounded to the nearest
    whole number, halves up.
    """
    # sums of shares such as .1 + .2 lie just above or below what they stand for
    first = math.floor(units * shares[0] + 0.5 + 1e-9)
    second = units if shares[2] == 0 else math.floor(units * (shares[0] + shares[1]) + 0.5 + 1e-9)
    return first, second - first, units - second


def least_units(least: Sequence[int], shares: Sequence[float]) -> int | None:
    """The smallest number from which on every part has the units it needs, `least` of each.

    None where a part that needs some has no share.
    """
    if any(need > 0 and share == 0 for need, share in zip(least, shares, strict=True)):
        return None
    # a part of n units has n * share to within one, so that the last failure lies below this
    most = max(
        (math.ceil((need + 1) / s) for need, s in zip(least, shares, strict=True) if s), default=0
    )
    for units in range(most, -1, -1):
        if any(size < need for size, need in zip(part_sizes(units, shares), least, strict=True)):
            return units + 1
    return 0


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


def _order(seed: int, unit: str) -> tuple[float, str]:
    return _uniform("split", seed, unit), unit


def _uniform(purpose: str, seed: int, name: str) -> float:
    """A uniform number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"tailbound/{purpose}/{seed}/{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
