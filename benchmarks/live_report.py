"""What following a run costs `tailbound view`: a look, a page, and asking again, by CPU time.

.venv/bin/python benchmarks/live_report.py [PROMPTS]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tailbound
from tailbound.workflows.view.live import LiveReport

DRAWS, TIMES = 2, 20


def seconds(work: Callable[[], object]) -> float:
    """CPU time of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main(prompts: int) -> None:
    """Import draws of so many prompts, and follow them."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        source, run = Path(folder) / "draws.jsonl", Path(folder) / "run"
        with source.open("w") as file:
            for number in range(prompts):
                for draw in range(DRAWS):
                    score = float(rng.random() < 0.05)
                    row = {"id": f"q{number}", "prompt": f"question {number}", "score": score}
                    file.write(json.dumps({**row, "draw": draw + 1}) + "\n")
        tailbound.import_draws(source, run, progress=None)
        clock = iter(range(10**6)).__next__  # every look is a new one
        report = LiveReport([run], show_unsafe=False, clock=lambda: float(clock()))
        first, page = seconds(report.status), seconds(report.page)
        again = float(np.median([seconds(report.status) for _ in range(TIMES)]))
    print(f"{prompts:,} prompts, {DRAWS * prompts:,} draws, in CPU time:")
    print(
        f"the page {page:.2f} s; the first look {first / page:.1%} of that, each later one", end=""
    )
    print(f" {again / page:.2%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
