r"""What a weighted draw costs, in plain draws: CPU time of whole runs of `tailbound risk`.

    .venv/bin/python benchmarks/weighted_draws.py --target hf:MODEL --prompts FILE --judge JUDGE \
        --proposal refusal:DIR [--draws 200] [--tokens 32] [--rows 64] [--repeats 1] [--json]

Two runs of as many draws of the same prompts, in turn, by one thread: `--proposal none`, and the
ladder over the proposal, with explorers. Everything is counted after the model is loaded:
self-checks, reading of prompts, sampling, learning, scoring, judging and estimates. `positions`
are token positions that a network read. Finding a direction (`tailbound steer`) is not part of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import tailbound
from tailbound.core.contract import SamplingOptions
from tailbound.targets.registry import load_target


def measure(options: argparse.Namespace, folder: Path, proposal: str) -> dict[str, Any]:
    """CPU seconds and positions per draw of one run."""
    target = load_target(
        options.target, SamplingOptions(max_new_tokens=options.tokens), batch_size=options.rows
    )
    started = time.process_time()
    result = tailbound.risk(
        options.prompts,
        out=folder,
        target=target,
        judge=options.judge,
        proposal=proposal,
        draws=options.draws,
        progress=None,
    )
    seconds = time.process_time() - started
    stages = json.loads((folder / "spend.json").read_text())["stages"]
    draws = sum(one.estimate.draws for one in result.risks)
    return {
        "seconds_per_draw": seconds / draws,
        "positions_per_draw": sum(stage["positions"] for stage in stages.values()) / draws,
        "draws": draws,
        "stages": {name: stage["positions"] for name, stage in stages.items()},
    }


def main() -> None:
    """Run the two in turn, and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--target", required=True)
    parser.add_argument("--prompts", required=True, type=Path)
    parser.add_argument("--judge", required=True)
    parser.add_argument("--proposal", required=True)
    parser.add_argument("--draws", type=int, default=200, help="per prompt")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ratios, found = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            plain = measure(options, Path(folder) / "plain", "none")
            weighted = measure(options, Path(folder) / "weighted", options.proposal)
        ratios.append(weighted["seconds_per_draw"] / plain["seconds_per_draw"])
        found.append({"plain": plain, "weighted": weighted})
    if options.json:
        print(json.dumps({"ratios": ratios, "runs": found}))
        return
    for run in found:
        for name, one in run.items():
            stages = ", ".join(f"{stage} {count:,}" for stage, count in one["stages"].items())
            print(
                f"{name:9}{one['draws']:6,} draws, {one['seconds_per_draw']:.3f} CPU-s and "
                f"{one['positions_per_draw']:.1f} positions each ({stages})"
            )
    print(f"a weighted draw costs {statistics.median(ratios):.2f} plain ones")


if __name__ == "__main__":
    main()
