"""The ladder: rungs, counts, and densities by prefix sums against token-by-token products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_models.drawing import spoken, steered_ladder
from reference_models.enumerable import random_model
from tailbound.errors import UsageError
from tailbound.importance_sampling import (
    Ladder,
    LadderProposal,
    adaptive_allocation,
    make_ladder,
    plain_is_cheaper,
    uniform_allocation,
    weighted_allocation,
)
from tailbound.importance_sampling.allocation import COMPARED_HITS


def test_rungs_for_long_replies() -> None:
    ladder = make_ladder(150, variants=["a", "b"])
    stops = {0: (1, 2, 4, 16, 150), 2: (4, 16, 150), 8: (16, 150), 32: (150,)}
    windows = {(start, stop) for start, ends in stops.items() for stop in ends}
    for variant in ("a", "b"):
        found = [(r.start, r.stop) for r in ladder.rungs if r.variant == variant]
        assert set(found) == windows
        assert len(found) == len(windows)
        assert all(r.mixing == 1 for r in ladder.rungs if r.variant == variant)
    assert ladder.rungs[0].is_target
    assert not any(rung.is_target for rung in ladder.rungs[1:])
    assert ladder.rungs[1].stop - ladder.rungs[1].start == 150
    heated = [r for r in ladder.rungs if r.variant == "heated"]
    assert [round(150 * r.mixing, 9) for r in heated] == [1, 2, 4, 8]
    assert all((r.start, r.stop) == (0, 150) for r in heated)


@given(st.integers(1, 200))
def test_windows_are_distinct_after_clipping(length: int) -> None:
    ladder = make_ladder(length, variants=["a"])
    windows = [(r.start, r.stop) for r in ladder.rungs if r.variant == "a"]
    assert len(set(windows)) == len(windows)
    assert all(0 <= start < stop <= length for start, stop in windows)
    assert (0, length) in windows
    shares = [r.mixing for r in ladder.rungs if r.variant == "heated"]
    assert len(set(shares)) == len(shares) >= 1
    assert all(0 < share < 1 for share in shares)


@given(st.integers(2, 3000), st.integers(2, 60), st.floats(0.01, 0.9))
def test_counts_are_whole_and_even(draws: int, proposals: int, share: float) -> None:
    counts = uniform_allocation(draws, proposals, target_share=share)
    assert counts.sum() == draws
    assert counts[0] >= 1
    assert counts[1:].max() - counts[1:].min() <= 1
    assert abs(counts[0] - share * draws) <= 1


@given(st.integers(30, 3000), st.lists(st.floats(0.01, 10), min_size=1, max_size=20))
def test_counts_by_weight_are_whole_and_in_proportion(draws: int, weights: list[float]) -> None:
    counts = weighted_allocation(draws, weights)
    assert counts.sum() == draws
    assert counts[0] == max(1, round(draws / 10))
    exact = np.array(weights) / sum(weights) * (draws - counts[0])
    assert (np.abs(counts[1:] - exact) < 1).all()


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [np.nan]])
def test_bad_weights_of_counts(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weights must be"):
        weighted_allocation(100, weights)


def test_default_counts() -> None:
    ladder = make_ladder(150, variants=["a"])
    counts = ladder.allot(500)
    assert counts[0] == 50
    assert set(counts[1:]) == {30}
    assert ladder.weight_bound(counts) == 10
    assert ladder.weight_bound(np.array([0, 5])) is None


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_densities_are_products_over_tokens(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    ladder = make_ladder(length + int(rng.integers(0, 3)), variants=["a", "b"])
    target = -rng.exponential(2, (5, length))
    tables = {name: -rng.exponential(2, (5, length)) for name in ladder.variants}
    for table in (target, *tables.values()):
        table[rng.random(table.shape) < 0.1] = -np.inf
    lengths = rng.integers(0, length + 1, 5)
    found = ladder.log_densities(target, tables, lengths=lengths)
    assert found.shape == (len(ladder), 5)
    for rung, row in zip(ladder.rungs, found, strict=True):
        for i, end in enumerate(lengths):
            product = 1.0
            for t in range(end):
                p = np.exp(target[i, t])
                if rung.start <= t < rung.stop:
                    s = np.exp(tables[rung.variant][i, t])
                    product *= rung.mixing * s + (1 - rung.mixing) * p
                else:
                    product *= p
            assert np.exp(row[i]) == pytest.approx(product, rel=1e-9, abs=1e-300)


def test_what_stands_behind_a_reply_is_not_read() -> None:
    ladder = steered_ladder(3, ("1",))
    tokens = np.array([[-1.0, np.nan, 7.0]])
    assert np.isfinite(ladder.log_densities(tokens, {"1": tokens}, lengths=[1])).all()
    with pytest.raises(UsageError):
        ladder.log_densities(tokens, {"1": tokens})


def test_densities_of_an_enumerable_model_sum_to_one() -> None:
    model = random_model(0, vocabulary=6, length=4)
    ladder = steered_ladder(4)
    densities = ladder.log_densities(
        model.all_unsteered, spoken(ladder, model.all_steered), lengths=model.lengths
    )
    np.testing.assert_allclose(np.exp(densities).sum(axis=1), 1)


def test_openings_speak_the_first_token_alone() -> None:
    """Densities by prefix sums are products over tokens, and sum to one over all replies."""
    model = random_model(5, vocabulary=4, length=3)
    rungs = [LadderProposal("a", 1, 3, 0.3, "b"), LadderProposal("b", 2, 3, 1.0, "a")]
    ladder = Ladder(3, (LadderProposal("target", 0, 0), *rungs))
    assert [rung.name for rung in ladder.rungs[1:]] == ["a 0.3 on 1-3 after b", "b on 2-3 after a"]
    assert ladder.variants == ("a", "b")
    base, (a, b), lengths = model.all_unsteered, model.all_steered, model.lengths
    found = np.exp(ladder.log_densities(base, {"a": a, "b": b}, lengths=lengths))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    inside = np.arange(3) < lengths[:, None]
    first = np.where(np.arange(3) == 0, np.exp(b), 0.3 * np.exp(a) + 0.7 * np.exp(base))
    second = np.stack([np.exp(a)[:, 0], np.exp(base)[:, 1], np.exp(b)[:, 2]], axis=1)
    np.testing.assert_allclose(found[1], np.where(inside, first, 1).prod(axis=1))
    np.testing.assert_allclose(found[2], np.where(inside, second, 1).prod(axis=1))
    with pytest.raises(UsageError, match="must start at 1 or later, not 0-3"):
        LadderProposal("a", 0, 3, 1.0, "b")


def test_groupings_partition_the_draws_and_have_their_own_mixtures() -> None:
    model = random_model(1, vocabulary=6, length=4)
    ladder = steered_ladder(4)
    counts = ladder.allot(100)
    labels = np.repeat(np.arange(len(ladder)), counts)
    rows = np.random.default_rng(0).integers(len(model.replies), size=100)
    densities = ladder.log_densities(
        model.all_unsteered[rows],
        spoken(ladder, model.all_steered[:, rows]),
        lengths=model.lengths[rows],
    )
    groupings = ladder.groupings(densities, counts, labels)
    assert [grouping.name for grouping in groupings] == ["variant", "target"]
    for grouping in groupings:
        one, other = grouping.first, grouping.second
        assert not (one.members & other.members).any()
        assert (one.members | other.members).sum() == (100 if grouping.name == "target" else 90)
        for group in (one, other):
            used = np.unique(labels[group.members])
            share = counts[used] / counts[used].sum()
            expected = np.exp(densities[0]) / (share @ np.exp(densities[used]))
            np.testing.assert_allclose(np.exp(group.log_weights), expected)
    assert (groupings[1].first.log_weights == 0).all()


def test_learnt_counts_lower_the_exact_second_moment_and_keep_their_promises() -> None:
    model = random_model(2, vocabulary=8, length=5)
    ladder = steered_ladder(5)
    densities = ladder.log_densities(
        model.all_unsteered, spoken(ladder, model.all_steered), lengths=model.lengths
    )
    p = np.exp(densities[0])
    unsafe = ((model.replies >= 4) & (model.replies < 7)).any(axis=1)
    even = ladder.allot(10_000)

    def second_moment(counts: np.ndarray) -> float:
        return float((p * np.exp(ladder.log_weights(densities, counts)))[unsafe].sum())

    # all replies, weighted by p: the population's optimum, so nothing near it is better
    best = adaptive_allocation(10_000, densities, densities[0], unsafe)
    assert best.sum() == 10_000
    assert best[0] == even[0]
    assert (best[1:] >= 0.25 * even[1:] - 1).all()
    assert second_moment(best) < 0.6 * second_moment(even)
    for source in np.flatnonzero(best > best.min() + 200)[1:]:
        for sink in range(1, len(ladder)):
            moved = best.copy()
            moved[source] -= 200
            moved[sink] += 200
            assert second_moment(moved) > second_moment(best) * (1 - 2e-3)
    # misled by a single draw, it is never much worse than even
    for reply in np.random.default_rng(0).choice(np.flatnonzero(unsafe), 10):
        misled = adaptive_allocation(10_000, densities[:, [reply]], [0.0], [1.0])
        assert second_moment(misled) < 4.01 * second_moment(even)
    assert (
        adaptive_allocation(500, densities, densities[0], np.zeros(p.size)) == ladder.allot(500)
    ).all()


@pytest.mark.parametrize("word", range(2, 8))
def test_plain_monte_carlo_is_cheaper_exactly_where_exact_variances_say_so(word: int) -> None:
    model = random_model(2, vocabulary=8, length=5)
    ladder = steered_ladder(5)
    densities = ladder.log_densities(
        model.all_unsteered, spoken(ladder, model.all_steered), lengths=model.lengths
    )
    p = np.exp(densities[0])
    counts = ladder.allot(1000)
    weights = np.exp(ladder.log_weights(densities, counts))
    for times in range(1, 5):
        unsafe = (model.replies == word).sum(axis=1) >= times
        risk = float(p[unsafe].sum())
        ratio = (risk - risk**2) / (float((p * weights)[unsafe].sum()) - risk**2)
        # every reply once, weighted by p x its number: the mean of w h is the risk
        log_w = densities[0] + np.log(p.size)
        for cost in (0.8 * ratio, 1.25 * ratio):
            found = plain_is_cheaper(counts, densities, log_w, unsafe, cost=cost)
            few = risk**2 / float((p[unsafe] ** 2).sum()) < COMPARED_HITS
            assert found is (cost > ratio and not few)


def densities(length: int, target: np.ndarray, hot: np.ndarray) -> np.ndarray:
    return steered_ladder(length).log_densities(target, {"1": hot, "0.6": hot})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_ladder(0, variants=["a"]), "max_new_tokens"),
        (lambda: make_ladder(5, variants=[], explorers=[]), "variants"),
        (lambda: make_ladder(5, variants=["a", "a"]), "different"),
        (lambda: make_ladder(5, variants=["heated"]), "different"),
        (lambda: make_ladder(5, variants=["a"], starts=(9,)), "start at 0"),
        (lambda: steered_ladder(5).allot(1), "at least 2"),
        (lambda: steered_ladder(5).allot(10, target_share=1.0), "target_share"),
        (lambda: densities(2, np.zeros((1, 3)), np.zeros((1, 3))), "at most 2"),
        (lambda: densities(5, np.zeros((1, 3)), np.zeros((2, 3))), "shape"),
        (lambda: densities(5, np.ones((1, 3)), np.zeros((1, 3))), "at most 0"),
        (lambda: densities(5, np.zeros(3), np.zeros(3)), "target must have shape"),
        (lambda: steered_ladder(5).log_densities(np.zeros((1, 3)), {}), "no log-probabilities"),
        (lambda: adaptive_allocation(10, np.zeros((3, 2)), [0.0], [1.0]), "do not fit"),
        (lambda: adaptive_allocation(10, np.zeros((3, 1)), [0.0], [1.0], floor=0.0), "floor"),
    ],
)
def test_bad_input(call: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        call()  # type: ignore[operator]
