"""Bounds by group: every group is covered, where one bound for all of them leaves some behind."""

from __future__ import annotations

import numpy as np
import pytest
from populations import Observed, true_coverage

from tailbound.errors import UsageError
from tailbound.intervals import clopper_pearson
from tailbound.survival import (
    Geometric,
    GroupedBound,
    bound_at,
    calibrate,
    calibrate_by_group,
    calibrate_with_record,
    evaluate,
    group_of,
    p_hat_edges,
    share_budget,
)

KINDS = ("underrated", "fair", "overrated")


def kinds_of_prompts(n: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """(risk, p_hat, group): risks are 8 times, as high as, and an eighth of what is predicted."""
    group = rng.integers(0, 3, n)
    p_hat = 10 ** rng.uniform(-3.5, -1.5, n)
    risk = p_hat * np.array([8.0, 1.0, 0.125])[group]
    return np.minimum(risk, 0.99), p_hat, group


@pytest.mark.parametrize(
    "guarantee", ["plug-in", "marginal", pytest.param("pac", marks=pytest.mark.slow)]
)
def test_every_group_is_covered_where_one_bound_for_all_is_far_off(guarantee):
    """30 calibrations of 600 prompts; a mean coverage has a standard error of .004 at most."""
    rng = np.random.default_rng(5)
    by_group, for_all = [], []
    for _ in range(30):
        risk, p_hat, group = kinds_of_prompts(600, rng)
        _, reference, reference_group = kinds_of_prompts(300, rng)
        options = {"budget": 60, "guarantee": guarantee, "reference_p_hat": reference, "rng": rng}
        times = rng.geometric(risk)
        found = calibrate_by_group(
            *(p_hat, group, Observed(times)),
            names=KINDS,
            reference_groups=reference_group,
            **options,
        )
        whole = calibrate(p_hat, Observed(times), **options)
        risk, p_hat, group = kinds_of_prompts(3000, rng)
        own, common = found.bound.predict(p_hat, group), whole.predict(p_hat)
        of = [group == number for number in range(3)]
        by_group.append([true_coverage(own[m], risk[m]) for m in of])
        for_all.append([true_coverage(common[m], risk[m]) for m in of])
    means = np.mean(by_group, axis=0)
    assert np.mean(for_all, axis=0)[0] < 0.8
    assert (means > {"plug-in": 0.885, "marginal": 0.892, "pac": 0.92}[guarantee]).all()
    assert (means < {"plug-in": 0.92, "marginal": 0.92, "pac": 0.975}[guarantee]).all()
    if guarantee == "pac":
        assert (np.array(by_group) < 0.9).mean() < 0.15  # stated .1; 90 calibrations


def test_predicted_distributions_have_groups_too():
    rng = np.random.default_rng(8)
    risk, p_hat, group = kinds_of_prompts(600, rng)
    times = rng.geometric(risk)
    for guarantee in ("plug-in", "marginal"):
        bounds = [
            calibrate_by_group(
                *(given, group, Observed(times)),
                names=KINDS,
                budget=50,
                guarantee=guarantee,
                reference_p_hat=given,
                reference_groups=group,
                rng=1,
            ).bound
            for given in (p_hat, Geometric(p_hat))
        ]
        assert bounds[0] == bounds[1]
        assert (bounds[0].predict(Geometric(p_hat), group) == bounds[1].predict(p_hat, group)).all()


def test_each_group_is_calibrated_by_its_own_prompts_alone():
    rng = np.random.default_rng(6)
    risk, p_hat, group = kinds_of_prompts(600, rng)
    observed = Observed(rng.geometric(risk))
    found = calibrate_by_group(p_hat, group, observed, names=KINDS, budget=50, rng=1)
    budgets = [bound.planned / bound.n_calibration for bound in found.bound.bounds]
    mine = np.flatnonzero(group == 0)
    alone, record = calibrate_with_record(
        p_hat[mine],
        Observed(observed.times[mine]),
        budget=found.bound.bounds[0].cap / found.bound.bounds[0].weight_bound,
        rng=1,
    )
    assert found.members[0].tolist() == mine.tolist()
    assert found.bound.bounds[0].level == pytest.approx(alone.level, rel=0.3)
    assert sum(b * m.size for b, m in zip(budgets, found.members, strict=True)) <= 50 * 600 * 1.001
    assert found.at(0.05).bounds[2] == bound_at(found.bound.bounds[2], found.records[2], 0.05)
    assert len(record.indices) > 0


def test_the_smallest_bound_is_no_longer_than_any():
    rng = np.random.default_rng(7)
    risk, p_hat, group = kinds_of_prompts(600, rng)
    observed = Observed(rng.geometric(risk))
    bound = calibrate_by_group(
        *(p_hat, group, observed), names=KINDS, budget=50, guarantee="plug-in", rng=1
    ).bound
    own, unknown = bound.predict(p_hat, group), bound.predict(p_hat, np.full(600, -1))
    assert (unknown <= own).all()
    assert (bound.smallest.predict(p_hat) <= unknown).all()
    assert (own <= bound.caps(group)).all()
    assert bound.smallest.spent == observed.draws == sum(one.spent for one in bound.bounds)
    assert bound.smallest.n_calibration == 600


def test_a_group_with_too_few_prompts_says_so():
    p_hat, group = np.full(105, 0.01), np.r_[np.zeros(100, int), np.ones(5, int)]
    observed = Observed(np.full(105, 10**6))
    bound = calibrate_by_group(p_hat, group, observed, names=("many", "few"), budget=5, rng=0).bound
    assert bound.predict([0.01, 0.01], [0, 1]).tolist()[1] == 1
    assert "In few: Every bound is 1" in bound.statement
    assert bound.statement.startswith("Within each of 2 groups")


def test_edges_come_from_the_reference_and_small_groups_are_merged():
    reference = 10 ** np.linspace(-5, -1, 100)
    edges = p_hat_edges(reference, 5, prompts=1000, least=16)
    assert np.bincount(group_of(reference, edges)).tolist() == [20] * 5
    assert p_hat_edges(reference, 5, prompts=50, least=16).size == 1  # 10 each: two neighbours join
    assert p_hat_edges(reference, 5, prompts=10, least=16).size == 0
    # one value for most prompts: no group is empty
    ties = np.r_[np.full(70, 0.01), np.linspace(0.02, 0.03, 30)]
    counts = np.bincount(group_of(ties, p_hat_edges(ties, 5, prompts=1000, least=10)))
    assert counts[0] == 70
    assert (counts > 0).all()
    assert p_hat_edges(np.full(50, 0.3), 3, prompts=100, least=10).size == 0


def test_budgets_add_up_and_nobody_gets_more_than_is_needed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(1, 200, 5)
        needs = 10 ** rng.uniform(0, 4, 5)
        shares = share_budget(100, needs, sizes)
        total = float(shares @ sizes)
        assert total <= 100 * sizes.sum() * (1 + 1e-12)
        assert (shares <= np.maximum(needs, 0) + 1e-9).all()
        if (needs >= 100).all():
            assert shares == pytest.approx(np.full(5, 100.0))
        if total < 100 * sizes.sum() * (1 - 1e-9):
            assert shares == pytest.approx(needs)  # everybody has enough


def test_intervals_of_strata_hold_all_at_once():
    """Six strata, each covered with .9: some interval misses in at most 5% of the evaluations."""
    rng = np.random.default_rng(1)
    limit, groups = np.full(300, 5), ["a", "b"] * 150
    missing = 0
    for _ in range(400):
        first = np.where(rng.random(300) < 0.1, 2, 0)
        found = evaluate(
            limit, first, np.full(300, 4), p_hat=rng.random(300), cap=9, groups=groups, bins=4
        )
        rows = (*found.by_p_hat, *found.by_group)
        missing += not all(row.interval[0] <= 0.9 <= row.interval[1] for row in rows)
    assert missing / 400 <= 0.05
    assert found.stratum_confidence == pytest.approx(1 - 0.05 / 6)
    low, high = clopper_pearson(rows[0].covered, rows[0].prompts, confidence=1 - 0.05 / 6)
    assert rows[0].interval == pytest.approx((float(low), float(high)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"groups": [0, 1, 2]}, "groups must lie in 0 .. 1"),
        ({"groups": [0, 1]}, r"groups has shape \(2,\)"),
        ({"groups": [0, 0, 0]}, "group 'b' has no calibration prompts"),
        ({"reference_p_hat": [0.1]}, r"reference_groups has shape"),
    ],
)
def test_wrong_groups_are_refused(wrong, says):
    options = {"groups": [0, 1, 0], **wrong}
    with pytest.raises(UsageError, match=says):
        calibrate_by_group(
            [0.1, 0.1, 0.1], options.pop("groups"), lambda i, h: i, names="ab", budget=3, **options
        )


def test_wrong_edges_are_refused():
    with pytest.raises(UsageError, match="at least 2 groups"):
        p_hat_edges([0.1], 1, prompts=10, least=1)
    with pytest.raises(UsageError, match="give training prompts a share"):
        p_hat_edges([], 2, prompts=10, least=1)
    assert isinstance(GroupedBound(names=(), bounds=()), GroupedBound)
