import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.errors import UsageError
from tailbound.prompts import Prompt, one_per_group, split


def prompt(name: str, group: str | None = None) -> Prompt:
    return Prompt(id=name, messages=(("user", name),), group=group)


PROMPTS = [prompt(f"p{i}", f"g{i % 300}" if i % 2 else None) for i in range(2000)]


def part_of(parts: tuple[tuple[Prompt, ...], ...]) -> dict[str, int]:
    return {p.id: number for number, part in enumerate(parts) for p in part}


def test_shares_are_met_and_nothing_is_lost() -> None:
    ungrouped = [prompt(str(i)) for i in range(20_000)]
    parts = split(ungrouped)
    assert sum(map(len, parts)) == len(ungrouped)
    for part, share in zip(parts, (0.4, 0.4, 0.2), strict=True):
        assert abs(len(part) / len(ungrouped) - share) < 0.015


@given(st.integers(0, 50), st.randoms())
def test_the_part_depends_on_unit_and_seed_alone(seed: int, rng: random.Random) -> None:
    whole = part_of(split(PROMPTS, seed=seed))
    some = rng.sample(PROMPTS, 500)
    assert part_of(split(some, seed=seed)) == {p.id: whole[p.id] for p in some}


def test_groups_stay_together_and_seeds_differ() -> None:
    whole = part_of(split(PROMPTS))
    for name in {p.group for p in PROMPTS if p.group}:
        assert len({whole[p.id] for p in PROMPTS if p.group == name}) == 1
    assert part_of(split(PROMPTS, seed=1)) != whole


def test_the_parts_are_pinned() -> None:
    some = [prompt(name) for name in "abcdefgh"]
    for seed, expected in ((0, "22110111"), (1, "21001110")):
        parts = part_of(split(some, seed=seed))
        assert "".join(str(parts[name]) for name in "abcdefgh") == expected


def test_a_share_may_be_zero() -> None:
    parts = split(PROMPTS, shares=(0.5, 0.5, 0))
    assert not parts.test
    assert parts.train
    assert split(PROMPTS, shares=(0, 1, 0)).calibration == tuple(PROMPTS)


@pytest.mark.parametrize(
    "shares", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.2, 0), (float("nan"),) * 3]
)
def test_bad_shares_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="three shares >= 0 that add up to 1"):
        split(PROMPTS, shares=shares)


@given(st.integers(0, 50), st.randoms())
def test_one_per_group_does_not_depend_on_order_or_other_groups(
    seed: int, rng: random.Random
) -> None:
    chosen = {p.id for p in one_per_group(PROMPTS, seed=seed)}
    units = {p.unit for p in PROMPTS}
    assert len(chosen) == len(units)
    kept = set(rng.sample(sorted(units), 100))
    some = [p for p in PROMPTS if p.unit in kept]
    rng.shuffle(some)
    assert {p.id for p in one_per_group(some, seed=seed)} == {p.id for p in some if p.id in chosen}
