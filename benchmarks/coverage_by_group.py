"""Coverage by fifth of p_hat on the demo, with one threshold for all and one for each.

    python benchmarks/coverage_by_group.py [--repeats 100] [--budget 120]

One run of the demo trains the predictor; its prompts' exact risks then give any number of
calibrations without sampling. Each draws 600 calibration prompts from those that are not training
prompts, and is evaluated exactly on the others.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

import tailbound
from tailbound.demo.exact import exact_risks
from tailbound.demo.files import default_prompts
from tailbound.survival import (
    calibrate,
    calibrate_by_group,
    group_of,
    p_hat_edges,
    recalibrate_hazard,
)


def demo_population() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(risk, p_hat, whether a training prompt) of the prompts of the demo."""
    prompts = default_prompts(1100)
    with tempfile.TemporaryDirectory() as folder:
        tailbound.bound(
            prompts,
            out=Path(folder) / "run",
            budget=5,
            train_draws=200,
            test_draws=1,
            split=(0.275, 0.545, 0.18),
            progress=None,
        )
        table = pl.read_parquet(Path(folder) / "run" / "p_hat.parquet")
    by_id = {prompt.id: prompt for prompt in prompts}
    risks = exact_risks([by_id[name] for name in table["id"]])
    risk = np.array([one.risk for one in risks])
    return risk, table["p_hat"].to_numpy(), (table["part"] == "train").to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--budget", type=float, default=120)
    options = parser.parse_args()
    risk, p_hat, train = demo_population()
    unsafe = np.random.default_rng(0).binomial(200, risk[train])
    hazard = recalibrate_hazard(p_hat[train], unsafe, 200)
    reference, risk, p_hat = p_hat[train], risk[~train], p_hat[~train]
    edges = p_hat_edges(reference, 5, prompts=600, least=17)
    fifth, names = group_of(p_hat, edges), [str(number) for number in range(len(edges) + 1)]
    found: dict[str, list[list[float]]] = {"one": [], "by fifth": []}
    for repeat in range(options.repeats):
        rng = np.random.default_rng(repeat)
        order = rng.permutation(len(risk))
        mine, other = order[:600], order[600:]
        times = rng.geometric(risk[mine])
        drawn = np.zeros(len(mine), dtype=np.int64)

        def observe(i, h, times=times, drawn=drawn):  # type: ignore[no-untyped-def]
            drawn[i] = np.minimum(times[i], h)
            return np.where(times[i] <= h, times[i], 0)

        for name in found:
            drawn[:] = 0
            if name == "one":
                bound = calibrate(
                    *(p_hat[mine], observe),
                    budget=options.budget,
                    guarantee="plug-in",
                    planning_p_hat=hazard,
                    rng=rng,
                )
                limits = bound.predict(p_hat[other])
            else:
                groups = calibrate_by_group(
                    *(p_hat[mine], fifth[mine], observe),
                    names=names,
                    budget=options.budget,
                    guarantee="plug-in",
                    planning_p_hat=hazard,
                    rng=rng,
                )
                limits = groups.bound.predict(p_hat[other], fifth[other])
            holds = np.exp((limits - 1) * np.log1p(-risk[other]))
            parts = [fifth[other] == number for number in range(len(names))]
            found[name].append(
                [
                    *(holds.mean(), float(drawn.sum()) / len(mine)),
                    *(holds[part].mean() for part in parts),
                    *(np.median(limits[part]) for part in parts),
                ]
            )
    count = len(names)
    print(f"{'threshold':<10}{'all':>7}{'draws':>7}  coverage by fifth (safest first), median L")
    for name, rows in found.items():
        mean = np.mean(rows, axis=0)
        print(
            f"{name:<10}{mean[0]:>7.3f}{mean[1]:>7.0f}  "
            + " ".join(f"{value:.3f}" for value in mean[2 : 2 + count])
            + "  "
            + " ".join(f"{value:,.0f}" for value in mean[2 + count :])
        )


if __name__ == "__main__":
    main()
