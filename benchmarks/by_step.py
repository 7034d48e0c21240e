"""Allocation by step where hazards vary from turn to turn, beside a published dynamic allocation.

    python benchmarks/by_step.py [--repeats 40] [--units 1000]

At most 20 turns, 5 draws per unit on average, alpha .1. Hazards fall to a tenth or rise tenfold;
the predicted hazards are wrong by a factor of their own for each unit. `dynamic` is our reading of
the idea of DAPRO (arXiv 2605.06605) from its abstract, not its authors' code: at every turn the
units that are still there get the chances that minimise their mean censoring weight under what is
left of the budget, each continues with its chance, and the calibrated level is where the weighted
share of events passes alpha. It has the same predicted hazards. `p_hat` is the default design with
one risk for all turns. L is over 20,000 new units, coverage P(T >= L) exact; draws are real ones.
"""

from __future__ import annotations

import argparse

import numpy as np

from tailbound.survival import Hazards, calibrate
from tailbound.survival.allocation import proportional

TURNS, BUDGET, ALPHA = 20, 5.0, 0.1
FLOOR = 0.03


def hazards_of(n: int, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted hazards, shape (n, 20)."""
    first = 10 ** rng.uniform(-2.3, -0.7, n)
    factor = (0.1 if kind == "falling" else 10.0) ** np.linspace(0, 1, TURNS)
    true = np.minimum(first[:, None] * factor / (1 if kind == "falling" else 10**0.5), 0.95)
    wrong = np.minimum(true * np.exp(rng.normal(0, 0.4, (n, 1))), 0.98)
    return true, wrong


def times_of(hazards: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    hit = rng.random(hazards.shape) < hazards
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, TURNS + 1)


def dynamic(predicted: np.ndarray, times: np.ndarray, rng: np.random.Generator):
    """(level, real draws): chances solved anew at every turn for the units that are still there."""
    n = len(times)
    levels = 1 - np.cumprod(1 - predicted, axis=1)
    weight = np.full(n, np.inf)
    chance, alive = np.ones(n), np.ones(n, dtype=bool)
    left = n * BUDGET
    for turn in range(TURNS):
        members = np.flatnonzero(alive)
        if not members.size or left <= 0:
            break
        # Draws still expected of each, and the chance that minimises sum 1 / chance under them.
        later = np.cumprod(1 - predicted[members, turn:], axis=1)
        cost = 1 + later[:, :-1].sum(axis=1)
        size = 1 / np.sqrt(cost)
        continues = proportional(left, cost, size, floor=FLOOR)(cost, size)
        goes = rng.random(len(members)) < continues
        chance[members] *= continues
        alive[members[~goes]] = False
        going = members[goes]
        left -= going.size
        hit = times[going] == turn + 1
        weight[going[hit]] = 1 / chance[going[hit]]
        alive[going[hit]] = False
    seen = np.flatnonzero(np.isfinite(weight))
    u = levels[seen, times[seen] - 1]
    order = np.argsort(u)
    above = np.flatnonzero(np.cumsum(weight[seen][order]) > ALPHA * n)
    level = float(u[order][above[0]]) if above.size else 0.95
    return level, n * BUDGET - left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--units", type=int, default=1000)
    options = parser.parse_args()
    print(f"{'hazards':<9}{'method':<9}{'mean L':>8}{'coverage':>10}{'sd':>8}{'draws':>8}")
    for kind in ("falling", "rising"):
        rng = np.random.default_rng(0)
        truth, seen = hazards_of(20_000, kind, rng)
        survival = np.column_stack([np.ones(len(truth)), np.cumprod(1 - truth, axis=1)])
        rows: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(options.repeats):
            hazards, predicted = hazards_of(options.units, kind, rng)
            times = times_of(hazards, rng)
            found: dict[str, tuple[np.ndarray, float]] = {}
            level, spent = dynamic(predicted, times, rng)
            found["dynamic"] = np.minimum(Hazards(seen).quantile(level), TURNS + 1), spent

            def observe(i: np.ndarray, h: np.ndarray, times: np.ndarray = times) -> np.ndarray:
                return np.where(times[i] <= h, times[i], 0)

            for name, own, new in (
                ("by step", Hazards(predicted), Hazards(seen)),
                ("p_hat", predicted.mean(axis=1), seen.mean(axis=1)),
            ):
                bound = calibrate(
                    *(own, observe), budget=BUDGET, alpha=ALPHA, max_follow_up=TURNS, rng=rng
                )
                found[name] = bound.predict(new), bound.spent
            for name, (bounds, spent) in found.items():
                covered = survival[np.arange(len(truth)), np.asarray(bounds, dtype=int) - 1].mean()
                row = float(np.mean(bounds)), float(covered), spent / options.units
                rows.setdefault(name, []).append(row)
        for name, values in rows.items():
            length, covered, spent = np.mean(values, axis=0)
            sd = np.std([one[1] for one in values])
            print(f"{kind:<9}{name:<9}{length:>8.2f}{covered:>10.3f}{sd:>8.4f}{spent:>8.2f}")


if __name__ == "__main__":
    main()
