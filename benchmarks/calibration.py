"""Calibration of a million prompts, beside a straightforward grid of N x 300 levels.

    python benchmarks/calibration.py [--prompts 1000000] [--json]

Both get the same predictions, the same selection and the same first unsafe draws (design
`trimmed`, whose horizons do not depend on levels), so they must find the same threshold. The grid
takes its quantiles from scipy.stats.geom, exact like ours, and computes the weighted loss of every
prompt at every level; the bare grid takes them from the closed form alone. Each runs in a process
of its own, on one thread; seconds are CPU seconds, and memory is the growth of the process's peak
over what it holds before calibrating. The default design, `balanced`, is timed besides.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

ALPHA, BUDGET, MAX_WEIGHT, TAU_MAX = 0.1, 100.0, 100.0, 10**-0.75
LEVELS = np.geomspace(1e-4, TAU_MAX, 300)


def population(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(p_hat, first unsafe draw, uniform numbers for selection), the same for both."""
    rng = np.random.default_rng(0)
    risk = 10 ** rng.uniform(-5, -2, n)
    p_hat = np.clip(risk * np.exp(rng.normal(0, 0.4, n)), 1e-9, 0.9)
    return p_hat, rng.geometric(risk), rng.random(n)


class Uniforms(np.random.Generator):
    """Gives out fixed uniform numbers, so that both sides select the same prompts."""

    def __new__(cls, values: np.ndarray) -> Uniforms:
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(np.random.PCG64(0))
        self._values = values

    def random(self, *args: object, **kwargs: object) -> np.ndarray:  # type: ignore[override]
        return self._values


def ours(n: int, design: str) -> float:
    from tailbound.survival import calibrate

    p_hat, times, uniforms = population(n)
    bound = calibrate(
        p_hat,
        lambda i, h: np.where(times[i] <= h, times[i], 0),
        budget=BUDGET,
        alpha=ALPHA,
        design=design,
        max_weight=MAX_WEIGHT if design == "trimmed" else None,
        rng=Uniforms(uniforms) if design == "trimmed" else 0,
    )
    return bound.level


def exact_quantiles(p_hat: np.ndarray) -> np.ndarray:
    """Predicted quantiles of every prompt at every level, by scipy: exact, as ours are."""
    from scipy.stats import geom

    quantiles = np.empty((len(p_hat), len(LEVELS)))
    for j, level in enumerate(LEVELS):
        quantiles[:, j] = geom.ppf(level, p_hat)
    return quantiles


def closed_quantiles(p_hat: np.ndarray) -> np.ndarray:
    """The same by the bare closed form, which rounding can put one draw off."""
    return np.ceil(np.log1p(-LEVELS)[None, :] / np.log1p(-p_hat)[:, None])


def grid(n: int, side: str) -> float:
    p_hat, times, uniforms = population(n)
    cap = BUDGET * MAX_WEIGHT
    horizon = np.minimum(np.ceil(np.log1p(-TAU_MAX) / np.log1p(-p_hat)), cap) - 1
    pi = np.minimum(BUDGET / np.maximum(horizon, 1), 1)
    selected = uniforms < pi
    quantiles = exact_quantiles(p_hat) if side == "grid" else closed_quantiles(p_hat)
    np.minimum(quantiles, cap, out=quantiles)
    loss = (selected / pi)[:, None] * (times[:, None] < quantiles)
    curve = loss.mean(axis=0)
    good = np.flatnonzero(curve <= ALPHA)
    return float(LEVELS[good[-1]])


def child(side: str, n: int, design: str) -> None:
    """Run one side on `n` prompts and print seconds, bytes and the threshold."""

    def run(size: int) -> float:
        return ours(size, design) if side == "ours" else grid(size, side)

    run(1000)  # imports and first calls
    population(n)  # the inputs are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    population(n)
    inputs = time.process_time() - started
    started = time.process_time()
    level = run(n)
    seconds = time.process_time() - started - inputs
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "mb": (peak - before) / 1024, "level": level}))


def measure(side: str, n: int, design: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", side, "--prompts", str(n), "--design", design]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=("ours", "grid", "bare grid"))
    parser.add_argument("--design", default="trimmed")
    options = parser.parse_args()
    if options.child:
        child(options.child, options.prompts, options.design)
        return
    n = options.prompts
    results = {
        "trimmed": measure("ours", n, "trimmed"),
        "balanced": measure("ours", n, "balanced"),
        "grid": measure("grid", n, "trimmed"),
        "bare grid": measure("bare grid", n, "trimmed"),
    }
    us, them, bare = results["trimmed"], results["grid"], results["bare grid"]
    step = float(LEVELS[1] / LEVELS[0])
    summary = {
        "prompts": n,
        "results": results,
        "times_faster": them["seconds"] / us["seconds"],
        "times_faster_than_bare_grid": bare["seconds"] / us["seconds"],
        "times_smaller": them["mb"] / us["mb"],
        "same_threshold": bool(them["level"] <= us["level"] * step <= them["level"] * step**2),
    }
    if options.json:
        print(json.dumps(summary, indent=2))
        return
    print(f"{n:,} prompts")
    for name, row in results.items():
        print(f"{name:<12} {row['seconds']:8.2f} s {row['mb']:9.0f} MB   level {row['level']:.5f}")
    print(
        f"{summary['times_faster']:.0f}x faster than the grid "
        f"({summary['times_faster_than_bare_grid']:.0f}x than the bare one), "
        f"{summary['times_smaller']:.0f}x smaller, same threshold: {summary['same_threshold']}"
    )


if __name__ == "__main__":
    main()
