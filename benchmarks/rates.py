"""How often intervals of event rates and upper bounds hold: nominal .95, known risks.

    python benchmarks/rates.py [--repeats 300]

Three tables. From training counts (300 prompts x 200 draws): intervals of P(unsafe within k), the
restricted mean and of draws per find at 200, and the band of the whole survival curve. From
calibration draws (600 prompts, budget 30) by inverse-probability weighting, beside a Kaplan-Meier
estimate, which takes no account of riskier prompts being followed less far. Upper bounds from
training counts at alpha = .05, beside the quantile of p_hat itself: mean P(T <= U) in their class.
"""

from __future__ import annotations

import argparse

import numpy as np

from tailbound.survival import (
    calibrate_upper,
    calibrate_with_record,
    counted_prompts,
    quantile,
    rates,
    weighted_prompts,
)

KS = (1, 10, 100, 200, 1000)


def risks(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Risks of n prompts."""
    return {
        "log-uniform": lambda: 10 ** rng.uniform(-6, -1, n),
        "rare class": lambda: np.where(rng.random(n) < 0.02, 0.3, 1e-5),
        "all alike": lambda: np.full(n, 0.01),
        "two kinds": lambda: np.where(rng.random(n) < 0.5, 1e-3, 0.05),
        "beta": lambda: np.maximum(rng.beta(0.2, 20, n), 1e-15),
    }[kind]()


def predicted(kind: str, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(risk, p_hat) of n prompts."""
    risk = 10 ** rng.uniform(-5, -0.5, n)
    if kind == "stop early":  # the riskier half stops before most of its events
        risky = rng.random(n) < 0.3
        return np.where(risky, 0.08, 2e-4), np.where(risky, 0.02, 1e-4)
    p_hat = {
        "good": risk * np.exp(rng.normal(0, 0.5, n)),
        "too high": np.sqrt(risk),
        "useless": 10 ** rng.uniform(-3, -1.5, n),
        "some too high": np.where(rng.random(n) < 0.08, np.maximum(risk, 0.1), risk),
    }[kind]
    return risk, np.clip(p_hat, 1e-9, 0.99)


def from_counts(kind: str, repeats: int) -> list[float]:
    """Coverage of P(unsafe within k) for each k, of both means, and of the band."""
    rng = np.random.default_rng(1)
    big, n = risks(kind, 10**6, rng), 200
    truth = [1 - float(((1 - big) ** k).mean()) for k in KS]
    time = float(((1 - (1 - big) ** n) / big).mean())
    curve: dict[int, float] = {}
    hit = np.zeros(len(KS) + 3)
    for _ in range(repeats):
        p = risks(kind, 300, rng)
        found = rates(counted_prompts(rng.binomial(n, p), n), within=KS)
        ends = [one.interval for one in (*found.within, found.restricted_mean)]
        ends.append(found.draws_per_find.interval)
        values = [*truth, time, time / truth[KS.index(n)]]
        inside = [
            low <= value <= (np.inf if high is None else high)
            for (low, high), value in zip(ends, values, strict=True)
        ]
        for one in found.survival:
            if one.draws not in curve:
                curve[one.draws] = float(((1 - big) ** one.draws).mean())
        band = all(
            one.interval[0] <= curve[one.draws] <= (one.interval[1] or 0) for one in found.survival
        )
        hit += [*inside, band]
    return (hit / repeats).tolist()


def from_weights(kind: str, repeats: int) -> tuple[list[float], list[float]]:
    """Coverage of P(unsafe within k), by weights and by Kaplan-Meier."""
    rng = np.random.default_rng(3)
    big, _ = predicted(kind, 10**6, rng)
    truth = [1 - float(((1 - big) ** k).mean()) for k in KS]
    hit, plain = np.zeros(len(KS)), np.zeros(len(KS))
    for _ in range(repeats):
        risk, p_hat = predicted(kind, 600, rng)
        times = rng.geometric(risk)
        bound, record = calibrate_with_record(
            p_hat,
            lambda i, h, times=times: np.where(times[i] <= h, times[i], 0),
            budget=30,
            guarantee="plug-in",
            rng=rng,
        )
        horizons = np.minimum(quantile(p_hat, record.sure_to), bound.cap) - 1
        weights, first = np.zeros(600), np.zeros(600, dtype=np.int64)
        weights[record.indices], first[record.indices] = record.weights, record.first_event
        followed = weighted_prompts(first, horizons, weights, weight_bound=bound.weight_bound)
        found = rates(followed, within=KS).within
        hit += [
            one.interval[0] <= t <= (one.interval[1] or 0)
            for one, t in zip(found, truth, strict=True)
        ]
        plain += [kaplan_meier(record, k, t) for k, t in zip(KS, truth, strict=True)]
    return (hit / repeats).tolist(), (plain / repeats).tolist()


def kaplan_meier(record, k: int, truth: float) -> bool:  # type: ignore[no-untyped-def]
    """Whether its 95% interval (Greenwood) for P(T <= k) covers."""
    event = record.first_event
    end = np.where(event > 0, event, record.horizons)
    survival, variance = 1.0, 0.0
    for time in np.unique(event[(event > 0) & (event <= k)]):
        died, at_risk = int((event == time).sum()), int((end >= time).sum())
        survival *= 1 - died / at_risk
        variance += died / (at_risk * (at_risk - died)) if at_risk > died else 0.0
    reach = 1.96 * survival * variance**0.5
    return bool(1 - survival - reach <= truth <= 1 - survival + reach)


def upper(kind: str, repeats: int) -> tuple[float, float, float]:
    """P(T <= U) in the class of the bound, that of the quantile of p_hat, share that is bounded."""
    rng = np.random.default_rng(2)
    risk, p_hat = predicted(kind, 10**5, rng)
    covered, bounded, plain = [], [], 1.0
    for _ in range(repeats):
        train, own = predicted(kind, 300, rng)
        bound = calibrate_upper(own, rng.binomial(200, train), 200, alpha=0.05)
        inside = p_hat >= bound.least_p_hat
        limit = bound.predict(p_hat[inside])
        finite = np.isfinite(limit)
        late = np.exp(np.where(finite, limit, 0.0) * np.log1p(-risk[inside])) * finite
        covered.append(1 - late.mean())
        bounded.append(finite.mean())
        times = quantile(p_hat[inside], 0.95)
        plain = 1 - float(np.exp(times * np.log1p(-risk[inside])).mean())
    return float(np.mean(covered)), plain, float(np.mean(bounded))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=300)
    repeats = parser.parse_args().repeats
    header = "".join(f"{f'k={k}':>8}" for k in KS)
    print(f"training counts     {header}    mean    find    band")
    for kind in ("log-uniform", "rare class", "all alike", "two kinds", "beta"):
        found = "".join(f"{value:8.3f}" for value in from_counts(kind, repeats))
        print(f"{kind:<20}{found}", flush=True)
    print(f"\ncalibration draws   {header}   (weights)")
    for kind in ("good", "too high", "useless", "stop early"):
        for name, row in zip((kind, "  Kaplan-Meier"), from_weights(kind, repeats), strict=True):
            print(f"{name:<20}" + "".join(f"{value:8.3f}" for value in row), flush=True)
    print("\nupper bounds          P(T<=U)  quantile  bounded")
    for kind in ("good", "too high", "useless", "some too high"):
        covered, plain, bounded = upper(kind, repeats)
        print(f"{kind:<20}{covered:9.3f}{plain:10.3f}{bounded:9.3f}", flush=True)


if __name__ == "__main__":
    main()
