r"""Weighted estimates beside plain Monte Carlo, from two run folders of the same prompts.

    .venv/bin/python benchmarks/beside_brute_force.py PLAIN WEIGHTED [--judged FOLDER] [--markdown]

PLAIN is a run with `--proposal none` (`--judged`: its `verdicts/DIGEST`, judged again),
WEIGHTED one with proposals. z is the difference over the standard error of both; *30 %* is
how many draws, and token positions, give a relative standard error of .3, by the variance that each
run shows. Positions are all that networks read: self-checks, sampling, learning and scoring.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np


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
        truth, n = plain[name]["risk"], plain[name]["draws"]
        floor = max(truth, 1 / n)
        error = one["standard_error"] or 0.0
        z = (one["risk"] - truth) / np.hypot(error, np.sqrt(floor * (1 - floor) / n))
        scores.append(z)
        due = 1 / 0.09
        by_plain = due * (1 - floor) / floor
        by_weights = due * one["draws"] * (error / one["risk"]) ** 2
        interval = one["interval"]
        rows.append(
            (
                name,
                f"{plain[name]['hits']}/{n}",
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
    found = np.array(scores)
    print(
        f"z pooled {found.sum() / found.size**0.5:+.2f}, largest {np.abs(found).max():.2f}, mean "
        f"square {(found**2).mean():.2f}; positions per draw: plain {each:.1f}, weighted {ours:.1f}"
        f" ({ours / each:.2f})"
    )


if __name__ == "__main__":
    main()
