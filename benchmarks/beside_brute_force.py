r"""Weighted estimates beside plain Monte Carlo, from two run folders of the same prompts.

    .venv/bin/python benchmarks/beside_brute_force.py PLAIN WEIGHTED [--judged FOLDER] [--markdown]

PLAIN is a run with `--proposal none` (`--judged`: its `verdicts/DIGEST`, judged again),
WEIGHTED one with proposals; every prompt needs an unsafe draw in both. z is the difference over the
standard error of both; *30 %* is how many draws, and token positions, give a relative standard
error of .3, by the variance that each run shows. Positions are all that networks read: self-checks,
sampling, learning and scoring.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tailbound.core.outside import visible
from tailbound.studies import Truth, deviation, draws_for, plain_draws, pooled_z


def estimates(folder: Path) -> dict[str, dict[str, Any]]:
    """The estimates of a run by prompt id."""
    return {one["id"]: one for one in json.loads((folder / "risk.json").read_text())["prompts"]}


def positions(folder: Path, draws: int) -> float:
    """Token positions per draw of a run."""
    stages = json.loads((folder / "spend.json").read_text())["stages"]
    return float(sum(stage["positions"] for stage in stages.values()) / draws)


def main() -> None:
    """Print a line for every prompt, and the pooled comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plain", type=Path)
    parser.add_argument("weighted", type=Path)
    parser.add_argument("--judged", type=Path, help="where PLAIN was judged again")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    plain = estimates(options.judged or options.plain)
    weighted = estimates(options.weighted)
    each = positions(options.plain, sum(one["draws"] for one in plain.values()))
    ours = positions(options.weighted, sum(one["draws"] for one in weighted.values()))
    header = (
        "prompt", "plain", "weighted", "at least", "interval", "z", "mean weight",
        "30 %: plain", "weighted", "positions saved",
    )  # fmt: skip
    rows = []
    scores = []
    for name, one in sorted(weighted.items(), key=lambda item: -plain[item[0]]["risk"]):
        truth = Truth.counted(plain[name]["hits"], plain[name]["draws"])
        errors = [one["standard_error"]]
        z = deviation([one["risk"]], truth, standard_errors=errors).z
        by_plain = plain_draws(truth.risk)
        by_weights = draws_for([errors[0] / one["risk"]], [one["draws"]])
        assert z is not None
        assert by_weights is not None
        scores.append(z)
        interval = one["interval"]
        rows.append(
            (
                visible(name),
                f"{truth.unsafe}/{truth.draws}",
                f"{one['risk']:.4f}",
                f"{one['certified_lower']:.4f}",
                "-" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
                f"{z:+.2f}",
                f"{one['mean_weight']:.2f} ({one['mean_weight_z']:+.1f})",
                f"{by_plain:,.0f}",
                f"{by_weights:,.0f}",
                f"{by_plain * each / (by_weights * ours):.1f}x",
            )
        )
    joint = " | " if options.markdown else "  "
    edge = "|" if options.markdown else ""
    for row in (header, ("---",) * len(header), *rows) if options.markdown else (header, *rows):
        print(f"{edge} {joint.join(row)} {edge}".strip())
    square = float(np.mean(np.square(scores)))
    print(
        f"z pooled {pooled_z(scores):+.2f}, largest {max(map(abs, scores)):.2f}, mean square "
        f"{square:.2f}; positions per draw: plain {each:.1f}, weighted {ours:.1f} "
        f"({ours / each:.2f})"
    )


if __name__ == "__main__":
    main()
