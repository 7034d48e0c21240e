"""What replicates of each calibration prompt's time cost and bring, by simulation with known risks.

    python benchmarks/replicates.py [--repeats 100] [--prompts 1000]

Predictors: good (noise of .3 log units) and useless (every prompt the same p_hat). For each
guarantee and design: one time of each prompt, and as many as the forecast chooses. Draws per
calibration prompt are the budget, those of the plan (with replicates: the real ones that it
expects; of `optimized` with one time: its horizons), and those spent (means over calibrations).
Coverage is exact for 20,000 new prompts; its standard deviation is from calibration to calibration.
"""

from __future__ import annotations

import argparse

import numpy as np

from tailbound.survival import calibrate

CASES = (
    ("1e-3 .. 1e-1", (-3, -1), 120.0, "balanced"),
    ("1e-3 .. 1e-1", (-3, -1), 120.0, "optimized"),
    ("1e-6 .. 1e-1", (-6, -1), 100.0, "balanced"),
    ("about 1e-5", (-5.1, -4.9), 100.0, "optimized"),
    ("published", (-3, -2), 1120.0, "optimized"),
)


def one(kind: str, ends: tuple[float, float], n: int, rng: np.random.Generator):
    """(risk, p_hat) of n prompts."""
    risk = 10 ** rng.uniform(*ends, n)
    if ends == (-3, -2):  # published: a tenth is a hundred times safer
        risk *= np.where(rng.random(n) < 0.1, 0.01, 1.0)
    p_hat = risk * np.exp(rng.normal(0, 0.3, n))
    if kind == "useless":
        p_hat = np.full(n, 10 ** np.mean(ends))
    return risk, np.clip(p_hat, 1e-12, 0.999)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=1000)
    options = parser.parse_args()
    n = options.prompts
    print("| risks | p_hat | design | guarantee | replicates | budget | planned | spent | coverage "
          "| its sd | median L |\n" + "| --- " * 11 + "|")  # fmt: skip
    for name, ends, budget, design in CASES:
        for kind in ("good", "useless") if ends == (-3, -1) else ("good",):
            for guarantee in ("plug-in", "marginal"):
                for asked in (1, None):
                    rng = np.random.default_rng(0)
                    test_risk, test_p_hat = one(kind, ends, 20_000, rng)
                    rows = []
                    for _ in range(options.repeats):
                        risk, p_hat = one(kind, ends, n, rng)
                        times = rng.geometric(np.tile(risk, 10))
                        bound = calibrate(
                            p_hat,
                            lambda i, h, times=times: np.where(times[i] <= h, times[i], 0),
                            budget=budget,
                            guarantee=guarantee,
                            design=design,
                            replicates=asked,
                            reference_p_hat=one(kind, ends, n, rng)[1],
                            rng=rng,
                        )
                        bounds = bound.predict(test_p_hat)
                        coverage = np.exp((bounds - 1) * np.log1p(-test_risk)).mean()
                        rows.append(
                            (coverage, np.median(bounds), bound.planned, bound.spent,
                             bound.replicates)
                        )  # fmt: skip
                    coverage, medians, planned, spent, copies = np.array(rows).T
                    print(
                        f"| {name} | {kind} | {design} | {guarantee} "
                        f"| {np.median(copies):.0f} "
                        f"| {budget:,.0f} | {planned.mean() / n:,.1f} | {spent.mean() / n:,.1f} "
                        f"| {coverage.mean():.4f} | {coverage.std(ddof=1):.4f} "
                        f"| {np.median(medians):,.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
