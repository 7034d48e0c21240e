"""What a resolved estimate is worth: models with planted routes, whose exact risk is known.

    python benchmarks/routes.py [--words 48] [--length 16] [--seeds 0 4] [--repeats 4]
                                [--draws 1500] [--no-explore] [--later]

Every kind of model (how its replies turn unsafe, `tests/reference_models/routes.py`) at risks of
1e-2, 1e-3, 1e-4 and 1e-5 (or the least that it can have: any word may be said anywhere), each on
the models of some seeds; all is measured against the exact risk of each. Per cell: the share of
estimates that are precise and resolved, the share of resolved intervals (95%) that hold the truth,
of resolved estimates that are off by a factor of 2, and the certified lower bound as a share of the
truth, in the median. 0.1 CPU-seconds a run at 48 words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference_models.routes import KINDS, LATER_KINDS, routes_model, run
from tailbound.importance_sampling import RiskEstimate

Rows = list[tuple[float, RiskEstimate]]


def line(rows: Sequence[tuple[float, RiskEstimate]]) -> str:
    """One row of the table from pairs of the truth and its estimate."""
    resolved = [(risk, one) for risk, one in rows if one.interval is not None]
    covers = [risk_in(one, risk) for risk, one in resolved]
    off = [not risk / 2 <= one.risk <= 2 * risk for risk, one in resolved]
    lower = [one.certified_lower / risk for risk, one in rows]
    cells = [
        f"{np.mean([one.precise for _, one in rows]):>9.2f}",
        f"{len(resolved) / len(rows):>9.2f}",
        f"{np.mean(covers):>9.3f}" if covers else f"{'-':>9}",
        f"{np.mean(off):>9.3f}" if off else f"{'-':>9}",
        f"{np.median(lower):>9.2f}",
        f"{np.mean(np.array(lower) <= 1):>9.3f}",
    ]
    return "".join(cells)


def risk_in(estimate: RiskEstimate, risk: float) -> bool:
    """Whether the interval holds the truth."""
    assert estimate.interval is not None
    return estimate.interval[0] <= risk <= estimate.interval[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--words", type=int, default=48)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 4), metavar=("FROM", "TO"))
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1500)
    parser.add_argument("--no-explore", action="store_true")
    parser.add_argument("--later", action="store_true", help="kinds that nothing was chosen on")
    options = parser.parse_args()
    names = ("precise", "resolved", "covers", "off 2x", "lower", "holds")
    print(f"{'routes':<18}{'risk':>7}" + "".join(f"{name:>9}" for name in names))
    total: Rows = []
    for kind in LATER_KINDS if options.later else KINDS:
        for risk in (1e-2, 1e-3, 1e-4, 1e-5):
            rows: Rows = []
            for seed in range(*options.seeds):
                model = routes_model(
                    kind, risk, seed=seed, words=options.words, length=options.length
                )
                rows += [
                    (
                        model.risk,
                        run(
                            model,
                            options.draws,
                            seed=1000 * seed + repeat,
                            explore=not options.no_explore,
                        ),
                    )
                    for repeat in range(options.repeats)
                ]
            print(f"{kind:<18}{risk:>7.0e}{line(rows)}", flush=True)
            total += rows
    print(f"{'all':<18}{'':>7}{line(total)}   ({len(total)} runs)")


if __name__ == "__main__":
    main()
