"""Predictions of any kind in place of p_hat: exact inverses, and whole calibrations with them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from populations import Observed, population

from tailbound.errors import UsageError
from tailbound.survival import (
    MAX_TIME,
    Geometric,
    Hazards,
    Mixture,
    PredictedTimes,
    bound_at,
    calibrate,
    calibrate_with_record,
    calibration,
    level,
    quantile,
)
from tailbound.survival.predicted import event_rate, expected_draws, smallest_time

RISKS = st.one_of(st.sampled_from([0.0, 1.0, 1e-300, 1e-12]), st.floats(1e-9, 1.0))


def drifting(n: int, steps: int, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Hazards of n units by step: they fall to a tenth, rise tenfold, or stay."""
    first = 10 ** rng.uniform(-2.3, -0.7, n)
    drift = {"falling": 0.1, "rising": 10.0, "constant": 1.0}[kind]
    factor = drift ** np.linspace(0, 1, steps)
    return np.minimum(first[:, None] * factor / max(1.0, drift**0.5), 0.95)


def times_of(hazards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """First events; units without one in the K steps have one at K + 1 or later."""
    hit = rng.random(hazards.shape) < hazards
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, hazards.shape[1] + 1)


class Plain:
    """The geometric pair as a user's own class would give it: only what the Protocol asks for."""

    def __init__(self, p: np.ndarray) -> None:
        self.p = p

    def __len__(self) -> int:
        return len(self.p)

    def take(self, indices: np.ndarray) -> Plain:
        return Plain(self.p[indices])

    def quantile(self, tau):
        return quantile(self.p, tau).astype(np.float64)

    def level(self, time):
        return level(self.p, time)


def kinds(hazards: np.ndarray, tail: np.ndarray) -> list[PredictedTimes]:
    positive = np.clip(hazards[:, 0], 1e-300, 1.0)
    by_step = Hazards(hazards, tail=tail)
    mixed = Mixture([Geometric(positive), by_step, Geometric(positive / 7)], weights=[0.2, 0.5, 3])
    return [by_step, mixed]


@settings(max_examples=50)
@given(
    st.lists(st.lists(RISKS, min_size=4, max_size=4), min_size=1, max_size=4),
    RISKS,
    st.lists(st.floats(0.0, 0.999999), min_size=1, max_size=3),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3),
)
def test_levels_and_quantiles_are_exact_inverses(rows, tail, taus, times):
    hazards = np.array(rows)
    for predicted in kinds(hazards, np.full(len(rows), tail)):
        assert isinstance(predicted, PredictedTimes)
        levels = [predicted.level(t) for t in (0, 1, 4, 5, *times)]
        assert (np.diff(np.sort(np.array(levels), axis=0), axis=0) >= 0).all()
        assert (levels[0] == 0).all()
        exact = [u for one in levels for u in (one, np.nextafter(one, 1), np.nextafter(one, 0))]
        for tau in [*taus, *(np.clip(one, 0.0, np.nextafter(1.0, 0)) for one in exact)]:
            q = predicted.quantile(tau)
            assert ((q >= 1) & (q <= MAX_TIME) & (q == np.floor(q))).all()
            reached = q < MAX_TIME
            assert (predicted.level(q)[reached] >= np.broadcast_to(tau, q.shape)[reached]).all()
            above = q > 1
            assert (predicted.level(q - 1)[above] < np.broadcast_to(tau, q.shape)[above]).all()


def test_hazards_are_what_was_given_and_the_last_one_stays():
    rng = np.random.default_rng(0)
    hazards = rng.uniform(0.01, 0.3, (5, 4))
    alive = np.cumprod(1 - hazards, axis=1)
    predicted = Hazards(hazards)
    for t in range(1, 5):
        assert predicted.level(t) == pytest.approx(1 - alive[:, t - 1])
    assert predicted.level(9) == pytest.approx(1 - alive[:, 3] * (1 - hazards[:, 3]) ** 5)
    assert predicted.hazards == pytest.approx(hazards)
    assert predicted.take(np.array([3, 1])).level(2) == pytest.approx(1 - alive[[3, 1], 1])
    assert Hazards(hazards, tail=0.0).level(10**6) == pytest.approx(1 - alive[:, 3])
    assert (Hazards(hazards, tail=0.0).quantile(0.9999) == MAX_TIME).all()
    assert Hazards([[0.1, 1.0, 0.5]]).hazards.tolist() == [[pytest.approx(0.1), 1.0, 0.0]]


@pytest.mark.parametrize("tail", [0.0, 0.02, 1.0])
def test_expected_draws_are_sums_of_survival(tail):
    rng = np.random.default_rng(1)
    hazards = rng.uniform(0.0, 0.3, (6, 5))
    for predicted in (Hazards(hazards, tail=tail), *kinds(hazards, np.full(6, tail))):
        for horizon in (0, 1, 3, 5, 6, 40):
            exact = sum((1 - predicted.level(t) for t in range(horizon)), np.zeros(6))
            assert expected_draws(predicted, horizon) == pytest.approx(exact)
    plain = Plain(np.array([0.3, 0.01, 0.001]))
    assert expected_draws(plain, 50) == pytest.approx(
        Geometric(plain.p).expected_draws(50), rel=0.02
    )
    assert event_rate(plain, np.full(3, 50.0)) == pytest.approx(plain.p, rel=0.02)
    assert event_rate(Hazards(hazards), np.zeros(6)) == pytest.approx(hazards[:, 0])


def test_a_search_finds_the_time_wherever_it_starts():
    risks = np.geomspace(1e-12, 0.9, 40)
    exact = quantile(risks, 0.3)
    for guess in (1.0, 2.5, 1e3, 1e4 + 0.5, float(MAX_TIME), np.inf):
        found = smallest_time(lambda t: level(risks, t), np.full(40, 0.3), np.full(40, guess))
        assert (found == exact).all()


@pytest.mark.parametrize("design", ["naive", "basic", "trimmed", "optimized", "balanced"])
def test_a_class_of_ones_own_gives_what_p_hat_gives(design):
    """`Plain` has only the Protocol: nothing in a calibration may rest on more."""
    rng = np.random.default_rng(2)
    people = population(500, "good", rng)
    times = rng.geometric(people.risk)
    options = {"budget": 40, "design": design, "rng": 3}
    if design == "naive":
        options["guarantee"] = "plug-in"
    else:  # selected independently, not in an order that may have ties
        reference = population(500, "good", rng).p_hat
        options["reference_p_hat"] = Geometric(reference)
    hazard = Geometric(people.p_hat)  # planning by quadrature would move probabilities a little
    bound, record = calibrate_with_record(people.p_hat, Observed(times), **options)
    own, seen = calibrate_with_record(
        Plain(people.p_hat), Observed(times), planning_p_hat=hazard, **options
    )
    same = calibrate(Geometric(people.p_hat), Observed(times), **options)
    assert own == bound == same
    assert (seen.levels == record.levels).all()
    assert bound_at(own, seen, 0.03) == bound_at(bound, record, 0.03)
    assert (own.predict(Plain(people.p_hat)) == bound.predict(people.p_hat)).all()


@pytest.mark.parametrize("guarantee", ["plug-in", "marginal", "pac"])
@pytest.mark.parametrize("kind", ["falling", "rising"])
@pytest.mark.parametrize("seed", range(3))
def test_lazy_horizons_give_exactly_the_level_of_full_ones(guarantee, kind, seed, monkeypatch):
    """Everybody selected is followed to the end at once: the curve is known at every level."""
    rng = np.random.default_rng(seed)
    hazards = drifting(600, 20, kind, rng)
    predicted = Hazards(hazards * rng.uniform(0.7, 1.3, (600, 1)))
    observed = Observed(times_of(hazards, rng))
    arguments = (predicted, observed)
    options = {
        "budget": 4,
        "guarantee": guarantee,
        "reference_p_hat": Hazards(drifting(600, 20, kind, rng)),
        "max_follow_up": 20,
        "max_weight": 4.0,
    }
    bound, record = calibrate_with_record(*arguments, rng=seed, **options)
    assert bound.spent == observed.draws
    assert bound.cap == min(16, 21)
    for name in ("plan_weighted", "plan_equal"):
        plan = getattr(calibration, name)

        def at_once(*given, plan=plan, **options):
            return replace(plan(*given, **options), first_level=0.95)

        monkeypatch.setattr(calibration, name, at_once)
    full, all_seen = calibrate_with_record(*arguments, rng=seed, **options)
    assert (all_seen.indices == record.indices).all()
    assert full.level == bound.level
    assert full.spent >= bound.spent


def test_nobody_is_followed_for_longer_than_they_can_be():
    rng = np.random.default_rng(5)
    hazards = drifting(300, 12, "falling", rng)
    observed = Observed(times_of(hazards, rng))
    bound = calibrate(
        Hazards(hazards), observed, budget=50, alpha=0.5, max_follow_up=12, rng=0, max_level=0.9
    )
    assert observed.reached.max() <= 12
    assert bound.cap == 13
    with pytest.raises(UsageError, match="max_follow_up must be at least 1"):
        calibrate(Hazards(hazards), observed, budget=5, max_follow_up=0)
    with pytest.raises(UsageError, match="takes no max_follow_up"):
        calibrate(
            *(Hazards(hazards), observed),
            budget=5,
            max_follow_up=9,
            design="naive",
            guarantee="plug-in",
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hazards([0.1, 0.2]), r"shape \(n, K\), not \(2,\)"),
        (lambda: Hazards(np.zeros((3, 0))), "no steps"),
        (lambda: Hazards([[0.1, 1.2]]), r"hazards\[0, 1\] is 1.2, not a probability"),
        (lambda: Hazards([[0.1, np.nan]]), "is nan, not a probability"),
        (lambda: Hazards([[0.1]], tail=-1.0), r"tail\[0\] is -1"),
        (lambda: Hazards([[0.1]], tail=[0.1, 0.2]), "tail has shape"),
        (lambda: Mixture([]), "needs parts"),
        (lambda: Mixture([Geometric([0.1]), Geometric([0.1, 0.2])]), "for the same units"),
        (lambda: Mixture([Geometric([0.1])], weights=[1.0, 2.0]), "weights have shape"),
        (lambda: Mixture([Geometric([0.1])], weights=[-1.0]), "not negative"),
    ],
)
def test_bad_predictions_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_planning_function_must_give_predictions():
    predicted = Hazards(np.full((30, 3), 0.1))
    observed = Observed(np.full(30, 9))
    halved = calibrate(
        predicted, observed, budget=2, planning_p_hat=lambda one: Hazards(one.hazards / 2), rng=0
    )
    assert halved.n_selected <= 30
    with pytest.raises(UsageError, match="from predictions to predictions"):
        calibrate(predicted, observed, budget=2, planning_p_hat=lambda one: np.full(30, 0.1))


# The guarantees, as in test_calibration.py: many calibrations, coverage exact up to a fixed set of
# units. Predictions are wrong by a factor of their own for every unit.


@cache
def simulate(kind: str, guarantee: str, *, repeats: int, n: int = 1000):
    rng = np.random.default_rng(11)
    steps = 20

    def people(size: int) -> tuple[np.ndarray, np.ndarray]:
        hazards = drifting(size, steps, kind, rng)
        wrong = np.minimum(hazards * np.exp(rng.normal(0, 0.4, (size, 1))), 0.98)
        return hazards, wrong

    truth, seen = people(20_000)
    survival = np.column_stack([np.ones(len(truth)), np.cumprod(1 - truth, axis=1)])
    coverage, lengths, constant = [], [], []
    for _ in range(repeats):
        hazards, p = people(n)
        _, reference = people(n)
        times = times_of(hazards, rng)
        options = {"budget": 5, "guarantee": guarantee, "max_follow_up": steps, "rng": rng}
        bound = calibrate(
            Hazards(p), Observed(times), reference_p_hat=Hazards(reference), **options
        )
        bounds = bound.predict(Hazards(seen))
        coverage.append(survival[np.arange(len(truth)), bounds - 1].mean())
        lengths.append(bounds.mean())
        if guarantee == "pac":
            continue
        # The same events under one risk for all steps, the best that `p_hat` alone can say.
        plain = calibrate(
            p.mean(axis=1), Observed(times), reference_p_hat=reference.mean(axis=1), **options
        )
        constant.append(plain.predict(seen.mean(axis=1)).mean())
    return np.array(coverage), np.mean(lengths), np.array(constant)


@pytest.mark.parametrize(
    ("kind", "guarantee"), [("falling", "plug-in"), ("falling", "marginal"), ("rising", "plug-in")]
)
def test_coverage_on_average_with_hazards_by_step(kind, guarantee):
    """40 calibrations of 1,000 units; 4 standard errors, and .003 for the fixed set of units."""
    coverage, length, constant = simulate(kind, guarantee, repeats=40)
    error = 4 * coverage.std() / np.sqrt(len(coverage)) + 0.003
    assert coverage.mean() >= 0.9 - error
    assert coverage.mean() <= 0.92 + error
    if kind == "falling":
        assert length >= 1.1 * constant.mean()


@pytest.mark.slow
def test_coverage_with_high_probability_with_hazards_by_step():
    """At most .1 of 60 calibrations may fall below; more than 14 once in 1,000 runs."""
    coverage, _, _ = simulate("falling", "pac", repeats=60)
    assert (coverage < 0.9).sum() <= 14
    assert coverage.mean() <= 0.95
