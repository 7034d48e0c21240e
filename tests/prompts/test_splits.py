import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts import least_units, one_per_group, split
from tailbound.prompts.splits import part_sizes


def prompt(name: str, group: str | None = None) -> Prompt:
    return Prompt(id=name, messages=(("user", name),), group=group)


PROMPTS = [prompt(f"p{i}", f"g{i % 300}" if i % 2 else None) for i in range(2000)]


def part_of(parts: tuple[tuple[Prompt, ...], ...]) -> dict[str, int]:
    return {p.id: number for number, part in enumerate(parts) for p in part}


def test_shares_are_met_and_nothing_is_lost() -> None:
    for shares, count, sizes in [
        ((0.4, 0.4, 0.2), 20_000, [8000, 8000, 4000]),
        ((0.25, 0.5, 0.25), 40, [10, 20, 10]),
        ((0.5, 0.5, 0), 40, [20, 20, 0]),
        ((0.3, 0.5, 0.2), 40, [12, 20, 8]),
        ((0.4, 0.4, 0.2), 51, [20, 21, 10]),
        ((0.5, 0.5, 0), 41, [21, 20, 0]),
    ]:
        parts = split([prompt(str(i)) for i in range(count)], shares=shares)
        assert [len(part) for part in parts] == sizes
        assert len({p.id for part in parts for p in part}) == count


@given(st.integers(0, 50), st.randoms())
def test_the_part_depends_on_units_and_seed_and_not_on_the_order(
    seed: int, rng: random.Random
) -> None:
    some = rng.sample(PROMPTS, 300)
    whole = part_of(split(some, seed=seed))
    assert part_of(split(rng.sample(some, 300), seed=seed)) == whole


@given(st.integers(0, 50), st.integers(30, 300))
def test_a_prompt_more_moves_at_most_one_other_across_each_cut(seed: int, count: int) -> None:
    some = [prompt(str(i)) for i in range(count)]
    before, after = part_of(split(some[:-1], seed=seed)), part_of(split(some, seed=seed))
    moved = [(before[name], after[name]) for name in before if before[name] != after[name]]
    assert len(moved) <= 2
    assert all(abs(a - b) == 1 for a, b in moved)
    assert len({min(pair) for pair in moved}) == len(moved)


@given(st.tuples(*[st.integers(0, 60)] * 3), st.tuples(*[st.integers(0, 20)] * 3).filter(any))
def test_the_least_number_of_units_is_the_least(
    least: tuple[int, int, int], weights: tuple[int, int, int]
) -> None:
    shares = [weight / sum(weights) for weight in weights]
    needed = least_units(least, shares)

    def enough(units: int) -> bool:
        return all(s >= n for s, n in zip(part_sizes(units, shares), least, strict=True))

    if needed is None:
        assert any(n > 0 and share == 0 for n, share in zip(least, shares, strict=True))
        return
    assert all(enough(units) for units in range(needed, needed + 200))
    assert needed == 0 or not enough(needed - 1)


def test_groups_stay_together_and_seeds_differ() -> None:
    whole = part_of(split(PROMPTS))
    for name in {p.group for p in PROMPTS if p.group}:
        assert len({whole[p.id] for p in PROMPTS if p.group == name}) == 1
    assert part_of(split(PROMPTS, seed=1)) != whole


def test_the_parts_are_pinned() -> None:
    some = [prompt(name) for name in "abcdefgh"]
    for seed, expected in ((0, "22010110"), (1, "22001110")):
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
