"""Agreement of groups: what it sees, what it does not, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from reference_models.drawing import draw_ladder, ladder_densities, steered_ladder
from reference_models.enumerable import EnumerableModel, events, random_model
from tailbound.errors import UsageError
from tailbound.importance_sampling import (
    Group,
    Grouping,
    balance_heuristic,
    coverage_check,
    estimate_risk,
)


def halves(log_w: np.ndarray, members: np.ndarray) -> Grouping:
    return Grouping(
        name="halves",
        first=Group(name="one", members=members, log_weights=log_w),
        second=Group(name="other", members=~members, log_weights=log_w),
    )


def test_equal_groups_agree_and_unequal_ones_do_not() -> None:
    log_w, first = np.full(400, -3.0), np.arange(400) < 200
    harm = (np.arange(400) % 4 == 0).astype(float)
    result = estimate_risk(log_w, harm, groups=[halves(log_w, first)], coverage_checked=True)
    assert result.agreement is not None
    (comparison,) = result.agreement.comparisons
    assert comparison.z == pytest.approx(0)
    assert comparison.effective_hits == pytest.approx((50, 50))
    assert comparison.estimates == pytest.approx((np.exp(-3) / 4,) * 2)
    assert result.resolved

    harm = ((np.arange(400) % 4 == 0) & first | (np.arange(400) % 40 == 0)).astype(float)
    result = estimate_risk(log_w, harm, groups=[halves(log_w, first)], coverage_checked=True)
    assert result.agreement is not None
    assert result.agreement.agrees is False
    assert result.status.startswith(
        "not resolved: needs about 1,600 draws, groups disagree (halves"
    )
    assert result.interval is None


def test_a_group_that_could_not_have_seen_the_hits_has_no_say() -> None:
    """The other's hits are nearly impossible for it: no disagreement, although it has none."""
    first = np.arange(400) < 200
    log_w = np.full(400, -3.0)
    harm = first.astype(float)
    grouping = Grouping(
        name="windows",
        first=Group(name="early", members=first, log_weights=np.full(400, -3.0)),
        second=Group(name="late", members=~first, log_weights=np.where(first, 9.0, -3.0)),
    )
    result = estimate_risk(log_w, harm, groups=[grouping], coverage_checked=True)
    assert result.agreement is not None
    assert result.agreement.agrees is None
    assert result.agreement.comparisons[0].outcome == "too few"
    assert result.resolved


def test_safe_draws_that_a_group_cannot_make_play_no_part() -> None:
    """A truncated contract: some draws of one group are impossible for the other (+inf)."""
    log_w, first = np.full(400, -3.0), np.arange(400) < 200
    harm = (np.arange(400) % 4 == 0).astype(float)
    impossible = first & (np.arange(400) % 4 == 1)
    grouping = Grouping(
        name="windows",
        first=Group(name="early", members=first, log_weights=log_w),
        second=Group(name="late", members=~first, log_weights=np.where(impossible, np.inf, log_w)),
    )
    result = estimate_risk(log_w, harm, groups=[grouping], coverage_checked=True)
    plain = estimate_risk(log_w, harm, groups=[halves(log_w, first)], coverage_checked=True)
    assert result.agreement is not None
    assert plain.agreement is not None
    assert result.agreement.comparisons[0].z == plain.agreement.comparisons[0].z
    assert result.agreement.agrees


def test_without_hits_nothing_is_compared() -> None:
    log_w, first = np.full(10, -3.0), np.arange(10) < 5
    result = estimate_risk(
        log_w, np.zeros(10), groups=[halves(log_w, first)], coverage_checked=True
    )
    assert result.agreement is not None
    assert result.agreement.agrees is None
    assert result.to_dict()["agreement"]["comparisons"][0]["z"] is None


def test_bad_groups() -> None:
    log_w, first = np.zeros(4), np.array([True, True, False, False])
    for grouping, words in (
        (halves(log_w, np.ones(4, bool)), "no draws"),
        (halves(log_w[:3], first[:3]), "all 4 draws"),
        (halves(np.array([np.inf, 0, 0, 0]), first), "on its own"),
        (
            Grouping(
                name="x",
                first=Group(name="a", members=first, log_weights=log_w),
                second=Group(name="b", members=first, log_weights=log_w),
            ),
            "share draws",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            estimate_risk(log_w, np.ones(4), groups=[grouping])


def blind(seed: int) -> EnumerableModel:
    """A model whose steered version never refuses, so never refuses first and gives in later."""
    model = random_model(seed)
    for tables in model.steered[:1]:
        for t, table in enumerate(tables):
            logits = table - 14.0 * np.isin(np.arange(table.shape[1]), (1, 2, 3))
            tables[t] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return model


def test_one_proposal_that_misses_a_route_is_never_called_resolved() -> None:
    """Its own draws look precise and are far too low; a ladder subset takes away its word.

    12 repeats on each of 3 models: without the subset the status is never better than "coverage
    not checked", and with it neither, unless the estimate is right.
    """
    rng = np.random.default_rng(0)
    for seed in (0, 2, 6):
        model = blind(seed)
        ladder = steered_ladder(6)
        p = np.exp(model.all_unsteered.sum(axis=1))
        truth = float(p[events(model.replies)["complies"]].sum())
        counts = np.zeros(len(ladder), dtype=np.int64)
        counts[1] = 450
        subset = ladder.allot(50)
        pooled, own = counts + subset, np.where(np.arange(len(ladder)) == 1, 1, 0)
        wrong = low = 0
        for _ in range(12):
            alone = draw_ladder(model, ladder, counts, rng)
            harm = events(alone.replies)["complies"]
            log_w = balance_heuristic(alone.log_densities[0], alone.log_densities, own)
            single = estimate_risk(log_w, harm)
            assert single.status != "resolved"
            low += single.risk < truth / 2 and single.ess_harm >= 10

            extra = draw_ladder(model, ladder, subset, rng)
            replies = np.concatenate([alone.replies, extra.replies])
            densities = ladder_densities(model, ladder, replies)
            check = coverage_check(
                "single",
                balance_heuristic(densities[0], densities, own),
                balance_heuristic(densities[0], densities, subset),
                np.arange(500) >= 450,
            )
            result = estimate_risk(
                ladder.log_weights(densities, pooled),
                events(replies)["complies"],
                groups=[check],
                weight_bound=ladder.weight_bound(pooled),
                coverage_checked=False,
            )
            wrong += result.resolved and not truth / 2 <= result.risk <= 2 * truth
        assert low >= 10
        assert wrong <= 1


@pytest.mark.slow
def test_false_alarms_and_flags_on_covered_models() -> None:
    """6 models x 4 events x 40 repeats at 200, 500 and 2,000 draws, all ways covered.

    Alarms in at most 5% of the estimates; of the estimates that are off by more than 2x, at least
    90% are not called resolved; t intervals cover at 93% or more of those resolved.
    """
    ladder, rng = steered_ladder(6), np.random.default_rng(0)
    alarms, off, flagged, inside = [], 0, 0, []
    for draws in (200, 500, 2000):
        counts = ladder.allot(draws)
        for seed in range(6):
            model = random_model(seed)
            p = np.exp(model.all_unsteered.sum(axis=1))
            truth = {name: float(p[e].sum()) for name, e in events(model.replies).items()}
            for _ in range(40):
                drawn = draw_ladder(model, ladder, counts, rng)
                q = drawn.log_densities
                groups = ladder.groupings(q, counts, drawn.labels)
                for name, harm in events(drawn.replies).items():
                    result = estimate_risk(
                        ladder.log_weights(q, counts),
                        harm,
                        groups=groups,
                        weight_bound=ladder.weight_bound(counts),
                        strata=drawn.labels,
                        coverage_checked=True,
                    )
                    assert result.agreement is not None
                    alarms.append(result.agreement.agrees is False)
                    if not truth[name] / 2 <= result.risk <= 2 * truth[name]:
                        off += 1
                        flagged += not result.resolved
                    if result.interval is not None:
                        inside.append(result.interval[0] <= truth[name] <= result.interval[1])
    assert np.mean(alarms) <= 0.05
    assert off >= 100
    assert flagged / off >= 0.9
    assert np.mean(inside) >= 0.93
