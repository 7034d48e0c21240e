"""What a resolved estimate is worth on trained models of two architectures with planted routes.

    python benchmarks/planted.py [--kinds late story all] [--risks 1e-3 1e-4] [--repeats 4]
                                 [--seed 0] [--draws 1500]

Everything is what `tailbound risk` runs: a checkpoint's sampler, the judge, the model without its
refusal direction, heated and learned versions, scoring, estimates (`run_risk`). The truth is the
model's own risk, by plain forward passes (`tests/reference_models/planted.py`), near the one that
was asked for. Per model: the mean of the estimates over the truth and its z-score, by the standard
errors that they report; the share that is resolved, whose interval (95%) holds the truth, and that
is off by 2x; the certified lower bound as a share of the truth, in the median. About 6 CPU-seconds
a model and 2 a run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference_models.planted import ARCHITECTURES, KINDS, PlantedLanguage, repeats
from tailbound.importance_sampling import RiskEstimate

Found = list[tuple[float, RiskEstimate]]


def line(found: Found) -> str:
    """One row of the table from pairs of the truth and its estimate."""
    ratios = np.array([one.risk / risk for risk, one in found])
    errors = np.array([(one.standard_error or np.nan) / risk for risk, one in found])
    ends = [(risk, one, one.interval) for risk, one in found if one.interval is not None]
    covers = [low <= risk <= high for risk, _, (low, high) in ends]
    off = [not risk / 2 <= one.risk <= 2 * risk for risk, one, _ in ends]
    lower = [one.certified_lower / risk for risk, one in found]
    z = (ratios - 1).sum() / np.sqrt(np.square(errors).sum())
    return (
        f"{ratios.mean():>8.3f}{z:>7.2f}{len(ends) / len(found):>10.2f}"
        f"{np.mean(covers) if covers else np.nan:>8.3f}{np.mean(off) if off else np.nan:>8.3f}"
        f"{np.median(lower):>7.2f}"
    )


def main() -> None:
    """Every architecture, kind and risk, one model of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=("late", "story", "all"))
    parser.add_argument("--risks", nargs="+", type=float, default=(1e-3, 1e-4))
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':<10}{'routes':<9}{'risk':>9}    mean      z  resolved  covers  off 2x  lower")
    total: Found = []
    for architecture in ARCHITECTURES:
        for kind in options.kinds:
            for risk in options.risks:
                model = PlantedLanguage(kind, risk, architecture, seed=options.seed)
                with tempfile.TemporaryDirectory() as folder:
                    found = repeats(model, options.repeats, options.draws, Path(folder))
                print(f"{architecture:<10}{kind:<9}{model.risk:>9.1e}{line(found)}", flush=True)
                total += found
    print(f"{'all':<28}{line(total)}   ({len(total)} runs)")


if __name__ == "__main__":
    main()
