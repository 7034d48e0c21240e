"""E-processes against their definition, by enumeration, by simulation, and beside a CUSUM."""

from __future__ import annotations

from itertools import product
from math import comb, prod

import numpy as np
import pytest

from tailbound.errors import UsageError
from tailbound.monitoring import (
    MULTIPLES,
    EProcess,
    Shares,
    Unit,
    advance,
    check_alpha,
    check_reference,
    draw_factors,
    mean_factors,
    total,
    violation_seen,
    watch,
)
from tailbound.monitoring.e_process import ATOM, SCALE


def ratio(m: float, p: float, n: int, s: int) -> float:
    """The likelihood ratio of odds that are m times as high."""
    q = m * p / (1 - p + m * p)
    return float((q / p) ** s * ((1 - q) / (1 - p)) ** (n - s))


def unstarted(u: float) -> float:
    return float((1 - ATOM) / (1 + np.log1p(u / SCALE)))


def evidence(p: list[float], n: list[int], s: list[int]) -> float:
    """E by its definition: a sum over starts, over alternatives, and what has not started."""
    u = np.concatenate(([0.0], np.cumsum(np.multiply(p, n))))
    found = unstarted(u[max(len(p) - 1, 0)]) if p else 1.0
    for k in range(len(p)):
        start = ATOM if k == 0 else unstarted(u[k - 1]) - unstarted(u[k])
        found += start * np.mean(
            [prod(ratio(m, p[i], n[i], s[i]) for i in range(k, len(p))) for m in MULTIPLES]
        )
    return float(found)


def test_evidence_is_its_definition_at_once_and_piece_by_piece() -> None:
    rng = np.random.default_rng(5)
    p = rng.uniform(0.001, 0.5, 12)
    n = rng.integers(0, 30, 12)
    s = rng.binomial(n, p)
    factors = draw_factors(p, draws=n, unsafe=s)
    whole, path = advance(EProcess(), factors, allowed=p * n)
    wanted = [evidence(list(p[:t]), list(n[:t]), list(s[:t])) for t in range(1, 13)]
    np.testing.assert_allclose(path, wanted, rtol=1e-10)
    process = EProcess()
    for cut in (slice(0, 1), slice(1, 1), slice(1, 7), slice(7, 12)):
        process, _ = advance(process, factors[cut], allowed=(p * n)[cut])
    assert process.e_value == pytest.approx(whole.e_value, rel=1e-10)
    assert process.e_value == pytest.approx(wanted[-1], rel=1e-10)
    assert (process.since, process.outcomes) == (whole.since, 12)
    assert EProcess().e_value == 1


@pytest.mark.parametrize("rate", [0.3, 0.2, 0.0])
def test_the_mean_of_evidence_over_all_streams_is_at_most_one(rate: float) -> None:
    """Over all 2^8 streams; exactly 1 where every draw is unsafe as often as the null allows."""
    mean, reached = 0.0, {0.5: 0.0, 0.2: 0.0}
    for stream in product((0, 1), repeat=8):
        probability = prod(rate if s else 1 - rate for s in stream)
        factors = draw_factors([0.3] * 8, draws=[1] * 8, unsafe=list(stream))
        _, path = advance(EProcess(), factors, allowed=[0.3] * 8)
        mean += probability * path[-1]
        for alpha in reached:
            reached[alpha] += probability * bool(path.max() >= 1 / alpha)
    assert mean == pytest.approx(1.0, abs=1e-12) if rate == 0.3 else mean < 1
    assert all(share <= alpha for alpha, share in reached.items())
    assert reached[0.5] > 0 or rate == 0.0


def test_numbers_of_draws_may_depend_on_verdicts() -> None:
    """Draws that stop at the first unsafe one, and more of them after a safe outcome."""

    def mean(process: EProcess, outcomes: int, most: int) -> float:
        if not outcomes:
            return process.e_value
        found = 0.0
        for n in range(1, most + 1):
            for s in (0, 1) if n == most else (1,):
                probability = 0.9 ** (n - s) * 0.1**s
                factors = draw_factors([0.1], draws=[n], unsafe=[s])
                after, _ = advance(process, factors, allowed=[0.1 * n])
                found += probability * mean(after, outcomes - 1, 2 if s else most + 2)
        return found

    assert mean(EProcess(), 4, 3) == pytest.approx(1.0, abs=1e-12)


def test_means_need_no_independence_within_an_outcome() -> None:
    """All ten draws of a prompt unsafe, or none: the mean factor is 1, that of draws is not."""
    of_mean = np.exp(mean_factors([0.1] * 2, value=[0.0, 1.0]))
    np.testing.assert_allclose(0.9 * of_mean[0] + 0.1 * of_mean[1], 1.0)
    of_draws = np.exp(draw_factors([0.1] * 2, draws=[10, 10], unsafe=[0, 10]))
    assert (0.9 * of_draws[0] + 0.1 * of_draws[1] > 2).all()


def test_violations_seen_are_shares_of_orders() -> None:
    n = 7
    for length, s in product((1, 2, 4, 8, 20), range(n + 1)):
        k = min(length - 1, n)
        share = 1 - comb(n - k, s) / comb(n, s)
        found = violation_seen([length], draws=[n], unsafe=[s])[0]
        assert found == pytest.approx(share, abs=1e-12)
    big = violation_seen([1001], draws=[2**31 - 1], unsafe=[10**6])
    assert big[0] == pytest.approx(1 - (1 - 10**6 / (2**31 - 1)) ** 1000, rel=1e-3)


def test_a_long_quiet_stream_and_a_flood_stay_finite() -> None:
    quiet, path = advance(
        EProcess(),
        draw_factors([0.5] * 50, draws=[2**31 - 1] * 50, unsafe=[0] * 50),
        allowed=[2.0**30] * 50,
    )
    assert 0 < quiet.e_value < 1
    flood, path = advance(
        quiet,
        draw_factors([0.5] * 3, draws=[2**31 - 1] * 3, unsafe=[2**31 - 1] * 3),
        allowed=[2.0**30] * 3,
    )
    assert np.isfinite(path).all()
    assert flood.e_value > 1e300
    assert (flood.since, flood.outcomes) == (51, 53)


def test_units_share_the_evidence_and_the_whole_is_their_mean() -> None:
    rng = np.random.default_rng(2)
    p, owner = 0.05, rng.integers(0, 3, 40)
    s = rng.binomial(5, np.where(owner == 1, 0.3, p))
    shares = Shares.of(by_unit=True, known=2)
    share = {0: shares.each, 1: shares.each, 2: shares.of_new(1)}
    units = {k: Unit(process=EProcess(), share=share[k]) for k in share}
    units["all"] = Unit(process=EProcess(), share=shares.overall)
    factors = draw_factors(np.full(40, p), draws=np.full(40, 5), unsafe=s)
    places = {k: np.flatnonzero(owner == k) for k in share} | {"all": np.arange(40)}
    found = watch(units, places, factors, np.full(40, 5 * p), alpha=0.05)
    for t in (1, 17, 40):
        parts = 1 - shares.overall - sum(share.values())
        for k, at in places.items():
            own = at[at < t]
            e = evidence([p] * len(own), [5] * len(own), list(s[own]))
            parts += min(e * units[k].share, 40)
        assert found.path[t - 1] == pytest.approx(parts, rel=1e-9)
    assert total(found.units, 0.05) == pytest.approx(found.path[-1], rel=1e-9)
    assert found.path.max() >= 20
    assert 1 in found.crossed
    assert not {0, 2} & set(found.crossed)


@pytest.mark.parametrize("known", [0, 1, 7])
def test_shares_sum_to_at_most_one(known: int) -> None:
    shares = Shares.of(by_unit=True, known=known)
    new = sum(shares.of_new(k) for k in range(1, 10_000))
    assert shares.overall + known * shares.each + new <= 1
    assert shares.overall + known * shares.each + new > 0.999
    assert Shares.of(by_unit=False).overall == 1


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
def test_limits_and_references_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="reference must lie"):
        check_reference(value)
    with pytest.raises(UsageError, match="alpha must lie"):
        check_alpha(value)


# --- simulations --------------------------------------------------------------------------------


def first_alarms(
    streams: int, rates: np.ndarray, *, p: float, n: int, alpha: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each stream, the outcome of the first alarm (their number if none), and its CUSUM."""
    rng = np.random.default_rng(seed)
    t = len(rates)
    found, cusums = [], []
    q = 3 * p
    for _ in range(streams):
        s = rng.binomial(n, rates)
        factors = draw_factors(np.full(t, p), draws=np.full(t, n), unsafe=s)
        _, path = advance(EProcess(), factors, allowed=np.full(t, n * p))
        hits = np.flatnonzero(path >= 1 / alpha)
        found.append(hits[0] if len(hits) else t)
        walk = np.cumsum(s * np.log(q / p) + (n - s) * np.log((1 - q) / (1 - p)))
        cusums.append((walk - np.minimum(np.minimum.accumulate(walk), 0)).astype(np.float32))
    return np.array(found), np.array(cusums)


def delays(p: float, n: int, t: int, change: int, limit: float) -> tuple[float, float]:
    """Mean delays to a threefold rise: of the e-process at alpha .05, and of the tuned CUSUM."""
    rates = np.where(np.arange(t) < change, p, 3 * p)
    alarms, cusums = first_alarms(100, rates, p=p, n=n, alpha=0.05, seed=12)
    true = alarms >= change
    over = cusums[:, change:] >= limit
    assert true.mean() > 0.9
    assert over.any(axis=1).all()
    return float((alarms[true] - change + 1).mean()), float((over.argmax(axis=1) + 1).mean())


def test_the_delay_to_a_threefold_rise_is_at_most_twice_that_of_a_tuned_cusum() -> None:
    """1e5 draws; the CUSUM knows the rise, and alarms falsely in 5% of streams of that length."""
    p, n, t = 0.01, 20, 5000
    _, cusums = first_alarms(300, np.full(t, p), p=p, n=n, alpha=0.05, seed=11)
    limit = float(np.quantile(cusums.max(axis=1), 0.95))
    for change in (0, t // 10, t // 2, 9 * t // 10):
        ours, tuned = delays(p, n, t, change, limit)
        assert ours <= 2 * tuned, (change, ours, tuned)


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.001, 0.01])
def test_false_alarms_are_as_rare_as_stated(p: float) -> None:
    """1,000 streams of 1e5 draws, looked at after every tenth; all as unsafe as the null allows."""
    t, alpha = 10_000, 0.05
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(1000):
        s = rng.binomial(10, p, t)
        factors = draw_factors(np.full(t, p), draws=np.full(t, 10), unsafe=s)
        _, path = advance(EProcess(), factors, allowed=np.full(t, 10 * p))
        false += bool(path.max() >= 1 / alpha)
    assert false <= 1000 * alpha


@pytest.mark.slow
def test_false_alarms_over_many_units_are_as_rare_as_stated() -> None:
    """500 streams of 2,000 outcomes over 100 units; half are known, half come by themselves."""
    t, alpha, p = 2000, 0.1, 0.02
    rng = np.random.default_rng(4)
    shares = Shares.of(by_unit=True, known=50)
    false = named = 0
    for _ in range(500):
        owner = rng.integers(0, 100, t)
        units = {
            k: Unit(process=EProcess(), share=shares.each if k < 50 else shares.of_new(k - 49))
            for k in range(100)
        }
        units[-1] = Unit(process=EProcess(), share=shares.overall)
        factors = draw_factors(np.full(t, p), draws=np.full(t, 5), unsafe=rng.binomial(5, p, t))
        places = {k: np.flatnonzero(owner == k) for k in range(100)} | {-1: np.arange(t)}
        found = watch(units, places, factors, np.full(t, 5 * p), alpha=alpha)
        false += bool(found.path.max() >= 1 / alpha)
        named += bool(found.crossed)
    assert named <= false <= 500 * alpha
