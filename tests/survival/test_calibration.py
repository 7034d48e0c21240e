"""Calibration: exact properties first, then the guarantees by simulation."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from populations import Observed, population, true_coverage

from tailbound.errors import UsageError
from tailbound.survival import (
    LowerPredictiveBound,
    bound_at,
    calibrate,
    calibrate_with_record,
    forecast,
    level,
    quantile,
    recalibrate_hazard,
    required,
)
from tailbound.survival.rules import least_prompts

DESIGNS = ("basic", "trimmed", "optimized", "balanced")


def one_calibration(
    *, seed: int, n: int = 400, kind: str = "good", reference: bool = False, **options
):
    rng = np.random.default_rng(seed)
    people = population(n, kind, rng)
    observed = Observed(rng.geometric(people.risk))
    if reference:
        options["reference_p_hat"] = population(n, kind, rng).p_hat
    bound, record = calibrate_with_record(
        people.p_hat,
        observed,
        **{"budget": 60, "rng": seed, "design": "balanced", "guarantee": "plug-in", **options},
    )
    return people, observed, bound, record


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
@pytest.mark.parametrize("seed", range(5))
def test_lazy_horizons_give_exactly_the_level_of_full_ones(design, guarantee, seed):
    people, observed, bound, record = one_calibration(
        seed=seed, design=design, guarantee=guarantee, reference=True, n=700, max_weight=5.0
    )
    # Everybody selected is followed to the end: the curve is known at every level.
    chosen, weights = record.indices, record.weights
    times, p = observed.times[chosen], people.p_hat[chosen]
    end = np.minimum(quantile(p, 0.95), bound.cap)
    u = np.where(times < end, level(p, times), 2.0)
    max_level = 0.95 if design == "balanced" else 10**0.25 * 0.1
    from tailbound.survival.rules import calibrated_level

    hit = (u < 2) & (times < bound.cap)
    full, _ = calibrated_level(u[hit], weights[hit], record.rule, max_level=max_level)
    assert bound.level == full


@pytest.mark.parametrize("design", DESIGNS)
def test_spend_is_what_was_drawn_and_planned_is_what_was_asked_for(design):
    _, observed, bound, _ = one_calibration(seed=3, design=design)
    assert bound.spent == observed.draws
    if design in ("optimized", "balanced"):
        assert bound.planned == pytest.approx(400 * 60, rel=0.02)
    else:  # what short horizons leave over is not handed on
        assert bound.planned <= 400 * 60


def test_the_weighted_curve_is_unbiased_at_fixed_levels():
    """Exact in the selection: the mean over 4,000 systematic starts is the full curve."""
    rng = np.random.default_rng(0)
    people = population(300, "good", rng)
    times = rng.geometric(people.risk)
    estimates = []
    for start in range(4000):
        _, record = calibrate_with_record(
            *(people.p_hat, Observed(times)),
            budget=30,
            max_level=0.05,
            max_weight=7.5,
            guarantee="plug-in",
            design="balanced",
            rng=start,
        )
        assert record.known_to == 0.05
        seen = (record.first_event > 0) & (record.levels < 0.05)
        estimates.append(record.weights[seen].sum() / 300)
    cap = math.ceil(30 * 7.5)
    full = (times < np.minimum(quantile(people.p_hat, 0.05), cap)).mean()
    error = np.std(estimates) / np.sqrt(len(estimates))
    # 4 standard errors: false alarm 6e-5 under the normal law
    assert abs(np.mean(estimates) - full) <= 4 * error + 1e-12


def test_predictions_are_quantiles_up_to_the_cap():
    _, _, bound, _ = one_calibration(seed=1)
    p = np.array([1e-12, 1e-4, 0.3, 1.0])
    assert bound.predict(p).dtype == np.int64
    assert bound.predict(p)[0] == bound.cap
    assert bound.predict(p)[3] == 1
    assert bound.predict(p).tolist() == np.minimum(quantile(p, bound.level), bound.cap).tolist()


def test_the_bound_survives_json():
    for design in (*DESIGNS, "naive"):
        _, _, bound, _ = one_calibration(seed=1, design=design)
        text = bound.to_json()
        assert LowerPredictiveBound.from_json(text) == bound
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    with pytest.raises(UsageError, match="not a bound"):
        LowerPredictiveBound.from_json("[]")


def test_order_of_the_prompts_does_not_matter_for_followed_prompts():
    """With every prompt followed the level is a function of the set."""
    rng = np.random.default_rng(4)
    people = population(200, "good", rng)
    times = rng.geometric(people.risk)
    order = rng.permutation(200)
    everybody = {"budget": 1e9, "max_weight": 1.0, "reference_p_hat": people.p_hat}
    one = calibrate(people.p_hat, Observed(times), **everybody, rng=0)
    two = calibrate(people.p_hat[order], Observed(times[order]), **everybody, rng=1)
    assert one.level == two.level
    assert one.n_selected == 200


def test_dismissing_events_can_only_lengthen_the_bound():
    _, _, bound, record = one_calibration(seed=2)
    assert record.level_without(np.zeros(len(record.indices), bool)) == bound.level
    dismissed = record.first_event > 0
    assert record.level_without(dismissed) == record.known_to
    assert record.known_to >= bound.level


def test_dismissing_events_of_the_naive_design_lengthens_its_bound():
    rng = np.random.default_rng(3)
    risk = 10 ** rng.uniform(-4, -1, 400)
    times = np.minimum(rng.geometric(risk), rng.geometric(np.full(400, 0.02)))
    bound, record = calibrate_with_record(
        risk, Observed(times), budget=50, design="naive", guarantee="plug-in", rng=0
    )
    none = np.zeros(400, dtype=bool)
    assert bound.limited_by == "alpha"
    assert record.level_without(none) == bound.level
    assert record.level_without(record.first_event > 0) == record.known_to > bound.level
    some = (record.first_event > 0) & (risk < 0.01)
    assert record.level_without(some) > bound.level


@pytest.mark.parametrize(
    ("design", "guarantee"),
    [
        ("naive", "plug-in"),
        *((design, "plug-in") for design in DESIGNS),
        ("trimmed", "marginal"),
        ("balanced", "marginal"),
        ("optimized", "pac"),
        ("balanced", "pac"),
    ],
)
def test_the_bound_at_its_own_miscoverage_is_the_bound(design, guarantee):
    *_, bound, record = one_calibration(
        seed=3, design=design, guarantee=guarantee, reference=guarantee != "plug-in"
    )
    assert bound.level > 0
    assert bound_at(bound, record, bound.alpha) == bound
    levels = [bound_at(bound, record, alpha).level for alpha in (0.1, 0.08, 0.05, 0.02, 0.001)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0  # 400 prompts admit none
    for alpha in (0.0, 0.11):
        with pytest.raises(UsageError, match="alpha must lie in"):
            bound_at(bound, record, alpha)


@pytest.mark.parametrize("design", ["trimmed", "optimized"])
@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
def test_a_smaller_miscoverage_gives_what_a_calibration_at_it_would_give(design, guarantee):
    """Where weights and levels are given, these designs do not depend on alpha."""
    common = {
        "design": design,
        "guarantee": guarantee,
        "reference": guarantee != "plug-in",
        "max_level": 0.3,
        "max_weight": 10.0,
    }
    *_, bound, record = one_calibration(seed=11, n=2000, **common)
    for alpha in (0.05, 0.02, 0.015):
        *_, alone, _ = one_calibration(seed=11, n=2000, alpha=alpha, **common)
        shorter = bound_at(bound, record, alpha)
        assert (shorter.level, shorter.miscoverage) == (alone.level, alone.miscoverage)
        assert shorter.statement == alone.statement
        assert alone.spent <= bound.spent
    assert 0 < alone.level < bound.level


def test_nobody_unsafe_is_limited_by_level_or_cap():
    p = np.full(50, 0.01)
    bound = calibrate(p, lambda i, h: np.zeros(len(i), dtype=np.int64), budget=20, rng=0)
    assert bound.limited_by in ("cap", "max_level")
    tiny = calibrate(p * 1e-6, lambda i, h: np.zeros(len(i), dtype=np.int64), budget=20, rng=0)
    assert tiny.limited_by == "cap"
    assert tiny.predict(p * 1e-6).tolist() == [tiny.cap] * 50


def test_everybody_unsafe_at_once_gives_one():
    bound = calibrate(
        np.full(50, 1e-4),
        lambda i, h: np.ones(len(i), dtype=np.int64),
        budget=20,
        guarantee="plug-in",
        rng=0,
    )
    assert bound.level == 0.0
    assert bound.predict(np.array([1e-4])).tolist() == [1]
    assert bound.limited_by == "alpha"


def test_too_few_prompts_for_a_guarantee_give_one_and_say_how_many_are_needed():
    spent = []
    bound = calibrate(
        10 ** np.linspace(-6, -1, 30),
        lambda i, h: spent.append(h) or np.zeros(len(i), dtype=np.int64),
        budget=20,
        guarantee="pac",
        reference_p_hat=10 ** np.linspace(-6, -1, 200),
        max_weight=20.0,
        rng=0,
    )
    assert bound.level == 0.0
    assert bound.prompts_needed > 30
    assert not spent


@pytest.mark.parametrize("alpha", [0.1, 0.03, 0.01])
def test_too_few_prompts_to_admit_one_unsafe_state_nothing_and_spend_nothing(alpha):
    """Below alpha N = 1 a single event would be too much, and none would say nothing."""
    n = least_prompts(alpha)
    assert alpha * n >= 1 > alpha * (n - 1)

    def never(indices, horizons):
        asked.append(len(indices))
        return np.zeros(len(indices), dtype=np.int64)

    for prompts, some in ((n - 1, False), (n, True)):
        asked: list[int] = []
        options = {"budget": 20, "alpha": alpha, "guarantee": "plug-in", "rng": 0}
        bound = calibrate(np.full(prompts, 1e-3), never, **options)
        assert (bound.level > 0) is some
        assert bool(asked) is some
        assert bound.prompts_needed == n
        assert bound.statement.startswith("Every bound is 1") is not some
        assert "No coverage" not in bound.statement or some
    with pytest.raises(UsageError, match=f"{n} are needed"):
        calibrate(np.full(n - 1, 1e-3), never, **options, design="naive")
    assert required(guarantee="plug-in", budget=10, alpha=alpha).minimum_prompts == n


@pytest.mark.parametrize("design", ["trimmed", "optimized"])
def test_published_designs_cover_with_few_prompts_and_bad_predictions(design):
    """100 prompts whose predictions stand upside down: a weight of 100 may not decide alone.

    Coverage of 100 calibrations has a standard error of .01 to .02, and its mean is about .9 (with
    weights up to 100 it was .74 to .83): below .86 in one seed in a hundred; the seed is fixed.
    """
    rng = np.random.default_rng(5)
    risk = 10 ** rng.uniform(-6, -1, 6000)
    covered = []
    for _ in range(100):
        mine = 10 ** rng.uniform(-6, -1, 100)
        bound = calibrate(
            *(1e-7 / mine, Observed(rng.geometric(mine))),
            budget=50,
            design=design,
            guarantee="plug-in",
            rng=rng,
        )
        assert bound.weight_bound <= 4 * (1 + 1e-9)
        assert "On average over calibrations" in bound.statement
        covered.append(np.exp((bound.predict(1e-7 / risk) - 1) * np.log1p(-risk)).mean())
    assert np.mean(covered) >= 0.86


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"design": "naive"}, "naive are without a bound"),
        ({"design": "basic"}, "basic are up to"),
        ({"design": "trimmed", "max_weight": 100.0}, "trimmed are up to"),
        ({"alpha": 0.01, "max_weight": 4.0}, "balanced are up to 4"),
        ({"max_weight": 60.0}, "balanced are up to 60"),
    ],
)
def test_weights_too_large_for_the_number_of_prompts_assure_nothing(options, words):
    p_hat = np.geomspace(1e-6, 1e-1, 100)
    options = {"budget": 2, "design": "balanced", "guarantee": "plug-in", "rng": 0, **options}
    bound = calibrate(p_hat, Observed(np.full(100, 10**6)), **options)
    assert bound.statement.startswith("No coverage is assured")
    assert words in bound.statement
    assert "statement" not in bound.to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget must be positive"),
        ({"alpha": 1.0}, "alpha must lie strictly"),
        ({"guarantee": "sure"}, "unknown guarantee 'sure'"),
        ({"design": "best"}, "unknown design 'best'"),
        ({"reference_p_hat": []}, "reference_p_hat is empty"),
        ({"guarantee": "marginal", "design": "naive"}, "unbounded weights"),
        ({"max_level": 1.5}, "max_level"),
        ({"max_weight": 0.5}, "max_weight"),
        ({"max_draws": 0.0}, "max_draws must be positive"),
        ({"max_draws": 5, "design": "naive", "guarantee": "plug-in"}, "takes no max_draws"),
        ({"budget": 0.5, "design": "naive", "guarantee": "plug-in"}, "needs a budget above 1"),
        ({"planning_p_hat": [0.1, 0.2]}, "planning_p_hat has shape"),
    ],
)
def test_bad_options_are_refused_before_anything_is_observed(options, message):
    def observe(indices, horizons):
        pytest.fail("nothing may be drawn")

    with pytest.raises(UsageError, match=message):
        calibrate(np.full(9, 0.1), observe, **{"budget": 5, **options})


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, float("nan")])
def test_bad_predictions_are_named(bad):
    with pytest.raises(UsageError, match=r"p_hat\[1\]"):
        calibrate(np.array([0.1, bad]), lambda i, h: h, budget=5)


def test_recalibration_recovers_a_distorted_hazard():
    rng = np.random.default_rng(0)
    risk = 10 ** rng.uniform(-4, -1, 4000)
    hazard = recalibrate_hazard(risk**1.5, rng.binomial(200, risk), 200)
    x = np.geomspace(1e-3, 0.05, 20)
    assert hazard(x**1.5) == pytest.approx(x, rel=0.25)
    assert (np.diff(hazard(np.geomspace(1e-9, 0.9, 200))) > 0).all()


@given(
    st.lists(st.tuples(st.floats(1e-12, 1.0), st.integers(0, 30)), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_recalibration_keeps_the_order_whatever_the_counts(prompts, seed):
    p_hat, draws = (np.array(column) for column in zip(*prompts, strict=True))
    draws[0] = max(draws[0], 1)
    unsafe = np.random.default_rng(seed).integers(0, draws + 1)
    hazard = recalibrate_hazard(p_hat, unsafe, draws)
    p = hazard(np.geomspace(1e-12, 0.999, 500))
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p) >= 0).all()
    assert (np.diff(p[p < 1 - 1e-9]) > 0).all()  # as far as floating point can tell


def test_below_what_draws_can_show_recalibration_continues_with_the_slope_of_all_prompts():
    """100 draws a prompt see nothing of risks below 1e-4; predictions are compressed by a half."""
    rng = np.random.default_rng(1)
    risk = 10 ** rng.uniform(-6, -1, 3000)
    hazard = recalibrate_hazard(np.sqrt(risk) / 4, rng.binomial(100, risk), 100)
    safest = np.array([1e-6, 1e-5])
    assert hazard(np.sqrt(safest) / 4) == pytest.approx(safest, rel=2)
    assert hazard.slope == pytest.approx(2, abs=0.25)


def test_recalibration_needs_draws():
    with pytest.raises(UsageError, match="no prompt has a draw"):
        recalibrate_hazard([0.1, 0.2], [0, 0], [0, 0])


def test_planner():
    pac = required(guarantee="pac", budget=100)
    assert pac.minimum_prompts < pac.comfortable_prompts
    assert required(guarantee="plug-in", bound_length=4000).budget == pytest.approx(120)
    assert required(guarantee="marginal", budget=10, max_weight=20).minimum_prompts == 199
    with pytest.raises(UsageError, match="budget or bound_length"):
        required()
    assert forecast([1e-3] * 20, prompts=8, budget=10).median_bound == 1
    assert forecast([1e-3] * 20, prompts=9, budget=10).median_bound > 1


# The guarantees. Coverage of one repeat is exact up to a fixed set of 20,000 prompts, whose own
# standard error is below .002; every population differs from repeat to repeat.


@cache
def simulate(repeats: int, kind: str, *, n: int = 2000, seed: int = 0, **options):
    rng = np.random.default_rng(seed)
    test = population(20_000, kind, rng)
    coverage, medians = [], []
    for _ in range(repeats):
        people = population(n, kind, rng)
        bound = calibrate(
            people.p_hat,
            Observed(rng.geometric(people.risk)),
            reference_p_hat=population(n, kind, rng).p_hat,
            rng=rng,
            **{"budget": 100, **options},
        )
        bounds = bound.predict(test.p_hat)
        coverage.append(true_coverage(bounds, test.risk))
        medians.append(float(np.median(bounds)))
    return np.array(coverage), np.array(medians)


@pytest.mark.parametrize(
    ("guarantee", "allowed"), [("plug-in", 0.004), ("marginal", 0.0), ("pac", None)]
)
def test_bounds_at_smaller_miscoverages_keep_their_guarantee(guarantee, allowed):
    """60 calibrations of 1,000 prompts planned for .1, read at .05 and .02.

    Three standard errors: a false alarm in one of 4 means once in 200; pac: more than 14 of 60 at a
    rate of .1 once in 1,000. The seed is fixed.
    """
    rng = np.random.default_rng(7)
    test = population(20_000, "good", rng)
    found = {alpha: [] for alpha in (0.05, 0.02)}
    for _ in range(60):
        people = population(1000, "good", rng)
        bound, record = calibrate_with_record(
            people.p_hat,
            Observed(rng.geometric(people.risk)),
            budget=100,
            guarantee=guarantee,
            max_weight=None if guarantee == "pac" else 5.0,
            reference_p_hat=population(1000, "good", rng).p_hat,
            rng=rng,
        )
        for alpha, coverage in found.items():
            shorter = bound_at(bound, record, alpha)
            coverage.append(true_coverage(shorter.predict(test.p_hat), test.risk))
    for alpha, coverage in found.items():
        values = np.array(coverage)
        if allowed is None:
            assert (values < 1 - alpha).sum() <= 14
        else:
            error = values.std() / np.sqrt(len(values))
            assert values.mean() >= 1 - alpha - allowed - 3 * error - 0.001
        assert values.mean() <= 1 - alpha / 4  # a bound of 1 would cover, and say nothing


def test_plug_in_coverage_fast():
    coverage, _ = simulate(40, "good", n=800, guarantee="plug-in", design="balanced")
    # 4 standard errors plus the error of the test set; false alarm below 1e-4
    assert abs(coverage.mean() - 0.9) <= 4 * coverage.std() / np.sqrt(40) + 0.004


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "useless", "too high"])
def test_plug_in_coverage(kind):
    coverage, _ = simulate(200, kind, guarantee="plug-in", design="balanced")
    error = coverage.std() / np.sqrt(len(coverage)) + 0.001  # the second: of the test set
    assert coverage.mean() >= 0.9 - 3 * error
    assert coverage.mean() <= 0.92


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "useless", "too high"])
def test_marginal_coverage(kind):
    coverage, _ = simulate(200, kind)
    error = coverage.std() / np.sqrt(len(coverage)) + 0.001
    assert coverage.mean() >= 0.9 - 3 * error
    assert coverage.mean() <= 0.92


def test_without_reference_predictions_some_prompts_are_planned_with_and_never_observed():
    """The others share the budget; the guarantee is as with a reference."""
    rng = np.random.default_rng(3)
    test = population(20_000, "good", rng)
    coverage, planned = [], []
    for seed in range(40):
        people = population(300, "good", rng)
        observed = Observed(rng.geometric(people.risk))
        bound, record = calibrate_with_record(people.p_hat, observed, budget=60, rng=seed)
        assert bound.guarantee == "marginal"
        assert bound.n_calibration == 270
        planned.append(bound.planned / (300 * 60))
        assert bound.spent == observed.draws
        assert set(np.flatnonzero(observed.reached)) <= set(record.indices)
        aside = np.random.default_rng(seed).permutation(300)[:30]
        assert not set(aside) & set(record.indices)
        coverage.append(true_coverage(bound.predict(test.p_hat), test.risk))
    # 3 standard errors; the seed is fixed
    assert np.mean(coverage) >= 0.9 - 3 * np.std(coverage) / np.sqrt(40)
    assert np.mean(planned) == pytest.approx(1, abs=0.1)
    with pytest.raises(UsageError, match="leaves none to plan with"):
        calibrate([0.1], observed, budget=60)


@pytest.mark.parametrize("n", [9, 10, 20, 50])
def test_marginal_lowers_its_weights_until_few_prompts_can_state_a_bound(n):
    """Equal weights need alpha (n + 1) >= 1."""
    p = 10 ** np.linspace(-5, -2, n)
    bound = calibrate(
        *(p, lambda i, h: np.zeros(len(i), dtype=np.int64)),
        budget=50,
        reference_p_hat=10 ** np.linspace(-5, -2, 100),
    )
    assert bound.level > 0
    assert bound.weight_bound <= 0.1 * (n + 1) * (1 + 1e-9)
    assert required(budget=50).minimum_prompts == 9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "useless", "too high"])
def test_pac_coverage(kind):
    coverage, medians = simulate(200, kind, guarantee="pac", delta=0.1)
    # At most .1; more than .165 of 200 about once in 1,000 runs. The seed is fixed.
    assert (coverage < 0.9).mean() <= 0.165
    assert coverage.mean() <= 0.95
    if kind == "good":
        _, marginal = simulate(200, kind)
        assert np.median(medians) >= 0.6 * np.median(marginal)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["trimmed", "optimized"])
def test_published_designs_cover(design):
    coverage, _ = simulate(200, "good", design=design, guarantee="plug-in")
    assert coverage.mean() >= 0.9 - 0.012  # few effective events: their mean lies a little below
    assert coverage.mean() <= 0.92


@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
@pytest.mark.parametrize("max_draws", [0.001, 1.0, 10.0, 40.0, 1e6])
def test_max_draws_is_never_passed_and_can_only_shorten_the_bound(guarantee, max_draws):
    """Predictions that are far too high make planning spend several times the budget."""
    options = {"seed": 5, "kind": "too high", "guarantee": guarantee, "reference": True}
    _, free, without, _ = one_calibration(**options)
    _, observed, bound, record = one_calibration(max_draws=max_draws, **options)
    assert observed.draws == bound.spent <= 400 * max_draws
    assert bound.level <= without.level
    if max_draws > 1000:
        assert (bound.level, bound.spent) == (without.level, free.draws)
    if bound.limited_by == "max_draws":
        assert bound.level == record.known_to
        if max_draws >= 1:
            assert bound.spent >= 0.9 * 400 * max_draws
