"""Multilevel splitting: its steps by hand, and its estimates against exact truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_models.drawing import draw_ladder
from reference_models.splitting import GRADES, gradual_model, harm_of, risk_of, run_repeats
from sizes import size
from tailbound.errors import UsageError
from tailbound.importance_sampling import make_ladder
from tailbound.importance_sampling.splitting import (
    Birth,
    Repeat,
    RepeatResult,
    ScoredPath,
    default_killed,
    estimate_splitting,
    most_draws,
)


def path(*scores: float) -> ScoredPath:
    return ScoredPath(np.arange(1, len(scores) + 1), np.array(scores))


def test_a_step_kills_ties_together_and_copies_strictly_above_the_level() -> None:
    repeat = Repeat(4, top=0.9, killed=1)
    repeat.add([path(0.0, 0.2), path(0.2, 0.1), path(0.1, 0.5, 0.3), path(0.0, 0.2, 0.0)])
    births = repeat.step(np.random.default_rng(0))
    assert births == [Birth(2, 2)] * 3  # .2 three times; .5 is the first score above it
    assert repeat.kills == [3]
    repeat.add([path(0.1, 0.5, 1.0), path(0.1, 0.5), path(0.1, 0.5, 0.2)])
    # two of the whole replies and the parent stay at .5; the last reached the top
    assert repeat.step(np.random.default_rng(0)) == []
    assert repeat.kills == [3, 3]
    np.testing.assert_allclose(
        repeat.weights, [1 / 4, 1 / 4, 1 / 16, 1 / 4, 1 / 16, 1 / 16, 1 / 16]
    )


def test_a_reply_that_rises_with_its_last_token_is_copied_without_a_draw() -> None:
    repeat = Repeat(3, top=0.9, killed=1)
    repeat.add([path(0.0), path(0.5), path(0.0, 0.0, 1.0)])
    assert [birth.cut for birth in repeat.step(np.random.default_rng(3))] == []
    assert repeat.weights.sum() == pytest.approx(1)
    assert repeat.weights[2] == pytest.approx((2 / 3) * (1 - repeat.kills[1] / 3))


def test_a_repeat_in_which_all_die_weighs_as_much_and_has_ended() -> None:
    repeat = Repeat(2, top=0.9)
    repeat.add([path(0.3), path(0.3)])
    assert repeat.step(np.random.default_rng(0)) == []
    assert repeat.step(np.random.default_rng(0)) == []
    assert repeat.weights.tolist() == [0.5, 0.5]


def test_levels_fixed_in_advance_kill_what_stays_below_them() -> None:
    repeat = Repeat(3, top=0.9, levels=(0.3, 0.9))
    repeat.add([path(0.3, 0.0), path(0.2, 0.0), path(0.1, 0.95, 0.1)])
    assert [b.parent in (0, 2) for b in repeat.step(np.random.default_rng(1))] == [True]
    repeat.add([path(0.3, 0.1)])
    births = repeat.step(np.random.default_rng(1))
    assert births == [Birth(2, 2), Birth(2, 2)]
    repeat.add([path(0.1, 0.95), path(0.1, 0.95)])
    assert repeat.step(np.random.default_rng(1)) == []
    assert repeat.weights.sum() == pytest.approx(1)


def test_missing_scores_raise_no_level() -> None:
    assert path(float("nan"), 0.2, float("nan")).level == pytest.approx(0.2)
    assert path(float("nan")).level == 0


@given(
    seed=st.integers(0, 2**32 - 1),
    particles=st.integers(2, 12),
    grades=st.integers(1, 6),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_weights_always_sum_to_one(
    seed: int, particles: int, grades: int, data: st.DataObject
) -> None:
    killed = data.draw(st.integers(1, particles - 1))
    rng = np.random.default_rng(seed)
    repeat = Repeat(particles, top=1.0, killed=killed)

    def paths(births: int, begun: list[ScoredPath]) -> list[ScoredPath]:
        new = rng.integers(0, grades + 1, (births, 5)) / grades
        return [
            path(*(before.scores.tolist() + row.tolist())[:5])
            for before, row in zip(begun, new, strict=True)
        ]

    nothing = ScoredPath(np.array([], dtype=np.int64), np.array([]))
    known = paths(particles, [nothing] * particles)
    repeat.add(known)
    while births := repeat.step(rng):
        begun = [
            ScoredPath(known[b.parent].cuts[: b.cut], known[b.parent].scores[: b.cut])
            for b in births
        ]
        new = paths(len(births), begun)
        known += new
        repeat.add(new)
        assert repeat.weights.sum() == pytest.approx(1)
    assert repeat.weights.sum() == pytest.approx(1)
    assert len(known) <= most_draws(particles)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"particles": 1, "top": 0.5}, "at least 2 particles, not 1"),
        ({"particles": 5, "top": 0.5, "killed": 5}, r"killed must lie in \[1, 5\), not 5"),
        ({"particles": 5, "top": 0.0}, "top level must lie in"),
        ({"particles": 5, "top": 0.5, "levels": (0.2, 0.1)}, "levels must be ascending"),
        ({"particles": 5, "top": 0.5, "levels": (0.6,)}, "at most 0.5"),
    ],
)
def test_what_is_no_scheme_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Repeat(**options)  # type: ignore[arg-type]


def test_steps_come_in_turn() -> None:
    repeat = Repeat(2, top=0.5)
    with pytest.raises(UsageError, match="2 replies that were asked for are still to be added"):
        repeat.step(np.random.default_rng(0))
    with pytest.raises(UsageError, match="2 replies were asked for, and 1 given"):
        repeat.add([path(0.0)])


def result(values: list[float], harm: list[float], particles: int = 4) -> RepeatResult:
    return RepeatResult(
        particles=particles, weights=np.array(values), harm=np.array(harm), kills=(1,)
    )


def test_missing_verdicts_count_neither_for_nor_against_but_in_the_bounds() -> None:
    nan = float("nan")
    some = [result([0.5, 0.3, 0.1, 0.05, 0.05], [0, 0, nan, 1, 1])] * 10
    found = estimate_splitting(some)
    assert found.risk == pytest.approx(0.1 / 0.9)
    assert found.missing_range == pytest.approx((0.1, 0.2))
    assert found.certified_lower < 0.1
    assert found.missing == 10
    upper = estimate_splitting([result([0.5, 0.3, 0.1, 0.05, 0.05], [0, 0, 0, 1, 1])] * 10)
    assert found.certified_upper is not None
    assert upper.certified_upper is not None
    assert found.certified_upper > upper.certified_upper
    everyone = estimate_splitting([result([0.25] * 4, [nan] * 4)] * 10)
    assert np.isnan(everyone.risk)
    assert "all 40 verdicts are missing" in everyone.status


def test_repeats_that_are_alike_by_chance_prove_little() -> None:
    alike = [result([0.4, 0.3, 0.2, 0.05, 0.05], [0, 0, 0, 1, 1])] * 10
    found = estimate_splitting(alike)
    assert found.standard_error is not None
    assert found.standard_error / found.risk == pytest.approx(np.sqrt(1 / 3 / 4 / 10))


def test_the_status_says_what_is_not_known() -> None:
    nothing = estimate_splitting([result([0.25] * 4, [0.0] * 4)] * 10)
    assert nothing.status.startswith("not resolved: no particle of 10 repeats reached")
    assert (nothing.risk, nothing.certified_lower, nothing.interval) == (0, 0, None)
    few = estimate_splitting([result([0.4, 0.3, 0.2, 0.05, 0.05], [0, 0, 0, 1, 1])] * 2)
    assert few.status.startswith("not resolved: needs about")
    assert few.interval is None
    good = estimate_splitting([result([0.4, 0.3, 0.2, 0.05, 0.05], [0, 0, 0, 1, 1])] * 10)
    assert good.precise
    assert not good.resolved
    assert good.coverage == "not checked"
    assert good.interval is not None
    assert good.interval[0] < good.risk < good.interval[1]


@pytest.mark.parametrize("bad", [[], [result([0.5, 0.5], [0, 2], 2)], [result([1.0], [0, 0], 2)]])
def test_bad_repeats_are_refused(bad: list[RepeatResult]) -> None:
    with pytest.raises(UsageError):
        estimate_splitting(bad)


CELLS = [(0, -1.5), (1, -2.5), (2, -3.0)]
"""(seed, rate) of models with risks from 4e-2 to 1e-4."""
SCHEMES: dict[str, dict[str, object]] = {
    "a quarter": {},
    "last particle": {"killed": 1},
    "half": {"killed": 20},
    "fixed levels": {"levels": (0.2, 0.45, 0.7, 0.9)},
}


def z_score(seed: int, rate: float, grade: str, scheme: str, repeats: int) -> tuple[float, int]:
    """Of the mean over repeats of 40 particles, and how many replies were drawn."""
    model = gradual_model(seed, rate=rate)
    rng = np.random.default_rng([seed, repeats, len(scheme), len(grade)])
    found, _ = run_repeats(
        model, GRADES[grade], rng, repeats=repeats, particles=40, **SCHEMES[scheme]
    )
    values = np.array([one.weights @ one.harm for one in found])
    error = values.std(ddof=1) / np.sqrt(repeats)
    replies = sum(one.weights.size for one in found)
    return float((values.mean() - risk_of(model, GRADES[grade])) / error), replies


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_estimates_are_unbiased_whatever_the_scheme(scheme: str) -> None:
    z, _ = z_score(1, -2.0, "words said", scheme, 60)
    assert abs(z) < 4


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "rate"), CELLS)
def test_estimates_are_unbiased_over_many_particles(seed: int, rate: float) -> None:
    """|z| <= 4 in each of 36 cells and for their sum: a false alarm of any about 2e-3.

    12 cells of at least 10,000 particles on each model; in full 100,000 in every cell. By fixed
    levels of a judge that is noise an unsafe reply is as rare as among plain draws: that cell
    always has the full number, without which there may be none.
    """
    scores, total = [], 0
    for grade in GRADES:
        for scheme in SCHEMES:
            plain = (grade, scheme) == ("useless", "fixed levels")
            z, replies = z_score(seed, rate, grade, scheme, 2_600 if plain else size(120, 2_600))
            print(f"{seed} {grade}, {scheme}: z {z:.2f} from {replies:,} replies")
            assert replies >= size(10_000, 100_000)
            assert abs(z) <= 4
            scores.append(z)
            total += replies
    assert total >= 100_000
    assert abs(np.sum(scores)) <= 4 * np.sqrt(len(scores))


def covered(seed: int, rate: float, grade: str, estimates: int) -> tuple[list[bool], list[bool]]:
    """Of estimates from 10 repeats of 50: precise ones' intervals, and all lower bounds."""
    model = gradual_model(seed, rate=rate)
    truth = risk_of(model, GRADES[grade])
    rng = np.random.default_rng([seed, estimates])
    found, _ = run_repeats(model, GRADES[grade], rng, repeats=10 * estimates, particles=50)
    intervals, lowers = [], []
    for number in range(estimates):
        one = estimate_splitting(found[10 * number : 10 * number + 10])
        lowers.append(one.certified_lower <= truth)
        if one.interval is not None:
            intervals.append(one.interval[0] <= truth <= one.interval[1])
    return intervals, lowers


def test_intervals_and_lower_bounds_cover() -> None:
    intervals, lowers = covered(1, -2.0, "words said", 20)
    assert len(intervals) >= 15
    assert np.mean(intervals) >= 0.8
    assert np.mean(lowers) >= 0.9


@pytest.mark.slow
def test_intervals_and_lower_bounds_cover_in_every_cell() -> None:
    """Intervals >= .9 pooled and >= .8 in cells where half are precise; lower bounds >= .93.

    9 cells of 30 estimates (80 in full). If 82% of the intervals held, or 88% of the lower bounds,
    that would pass in fewer than 1% of seeds.
    """
    estimates = size(30, 80)
    pooled, bounds = [], []
    for seed, rate in CELLS:
        for grade in GRADES:
            intervals, lowers = covered(seed, rate, grade, estimates)
            pooled += intervals
            bounds += lowers
            print(
                f"{seed} {grade}: {np.mean(lowers):.3f} lower, {len(intervals)} precise, "
                f"{np.mean(intervals) if intervals else float('nan'):.3f} cover"
            )
            assert len(intervals) < estimates / 2 or np.mean(intervals) >= 0.8
    assert len(pooled) >= 4 * estimates
    assert np.mean(pooled) >= 0.9
    assert np.mean(bounds) >= 0.93


BESIDE = {
    "all that is needed": {"lift": 2.5},
    "the first word only": {"lift": 2.5, "once": True},
    "nothing": {"lift": 0.5},
}
"""What the direction of the ladder unlocks."""


@pytest.mark.slow
@pytest.mark.parametrize("rate", [-2.0, -3.0, -3.5])
def test_beside_the_ladder_and_plain_draws_at_equal_tokens(rate: float) -> None:
    """Relative RMSE over 40 estimates of about 14,000 sampled tokens (the ladder scores besides).

    Each is good to a ninth; in full there are 200, for the table of docs/splitting.md. Splitting
    beats plain draws; the ladder beats splitting where its direction is good, and may lose where
    it is not.
    """
    estimates, rng = size(40, 200), np.random.default_rng(5)
    found: dict[str, float] = {}
    for name, steering in BESIDE.items():
        model = gradual_model(1, rate=rate, **steering)  # type: ignore[arg-type]
        truth = risk_of(model, GRADES["words said"])
        if not found:
            repeats, spent = run_repeats(
                model, GRADES["words said"], rng, repeats=10 * estimates, particles=100
            )
            values = np.array([one.weights @ one.harm for one in repeats]).reshape(estimates, 10)
            tokens = spent / estimates
            found["splitting"] = _rmse(values.mean(axis=1), truth)
            each = float(np.exp(model.all_unsteered.sum(axis=1)) @ model.lengths)
            found["plain"] = float(np.sqrt((1 - truth) / truth / (tokens / each)))
        ladder = make_ladder(model.length, variants=["1"], explorers=[], starts=(0, 2, 4))
        counts = ladder.allot(round(tokens / each))
        risks = []
        for _ in range(estimates):
            drawn = draw_ladder(model, ladder, counts, rng)
            weights = np.exp(ladder.log_weights(drawn.log_densities, counts))
            risks.append(float(np.mean(weights * harm_of(GRADES["words said"], drawn.replies))))
        found[f"ladder, {name}"] = _rmse(np.array(risks), truth)
    row = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    print(f"risk {truth:.1e}, {tokens:,.0f} tokens: {row}")
    assert found["splitting"] < 0.7 * found["plain"]
    assert found["ladder, all that is needed"] < found["splitting"]


def _rmse(values: np.ndarray, truth: float) -> float:
    return float(np.sqrt(np.mean((values / truth - 1) ** 2)))


def test_the_cost_of_a_repeat_is_bounded() -> None:
    assert default_killed(3) == 1
    assert most_draws(100) == 100 + 2173
