"""What workers cost and what they bring, by CPU time: python benchmarks/executors.py [DRAWS]

A fixed number of draws of the demo model, by this process, by one worker and by two. CPU time of
workers is read from the system once they have loaded, so that neither start nor waiting counts.
Throughput of two workers beside one: draws per CPU second of the busiest process.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tailbound.audit import Audit
from tailbound.core.contract import SamplingOptions
from tailbound.demo.files import default_prompts
from tailbound.executors import LOCAL, executing
from tailbound.executors.messages import Loading
from tailbound.executors.pool import WorkerPool
from tailbound.executors.processes import ProcessCarrier
from tailbound.judges.registry import load_judge
from tailbound.runs import Ledger
from tailbound.targets.registry import load_target

PROMPTS = 100
BATCH = 256


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(workers: int, draws: int) -> tuple[float, float, float]:
    """CPU seconds of this process, and of the busiest worker; wall seconds."""
    options = SamplingOptions(max_new_tokens=32)
    target, judge = load_target("demo", options, batch_size=BATCH), load_judge("demo")
    carriers: list[ProcessCarrier] = []

    def launch(number: int) -> ProcessCarrier:
        carriers.append(ProcessCarrier({"OMP_NUM_THREADS": "1"}))
        return carriers[-1]

    loading = Loading(target="demo", options=options, engine={"batch_size": BATCH})
    digest = target.contract.digest
    prompts = default_prompts(PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(
            Path(folder), run="bench", contract=target.contract, judge_id=judge.id, seed=0
        )
        pool = WorkerPool(launch, workers, loading, contract=digest, rows=BATCH)
        with ledger as record, pool, executing(pool if workers else LOCAL):
            for member in pool._members:
                assert member.loaded is not None
                member.loaded.result()
            audit = Audit(target, judge, record, threshold=judge.threshold, seed=0)
            audit.sample_fixed(prompts, 4, stream="warm-up")
            before = [cpu_seconds(one.pid) for one in carriers]
            own, wall = time.process_time(), time.perf_counter()
            counts = audit.sample_fixed(prompts, draws // PROMPTS, stream="draws")
            own, wall = time.process_time() - own, time.perf_counter() - wall
            theirs = [cpu_seconds(one.pid) - was for one, was in zip(carriers, before, strict=True)]
            print(f"    unsafe {int(np.sum(counts.unsafe))}, each worker {theirs}", file=sys.stderr)
    return own, max(theirs, default=own), wall


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    found = {workers: measure(workers, draws) for workers in (0, 1, 2)}
    print(f"{draws:,} draws of the demo model, batches of {BATCH}")
    for workers, (own, busiest, wall) in found.items():
        name = f"{workers} workers" if workers else "this process"
        print(
            f"{name:>13}: coordinator {own / draws * 1e6:6.0f} us a draw, busiest process "
            f"{busiest:6.1f} CPU-s, {wall:6.1f} s"
        )
    print(f"two workers beside one: {found[1][1] / found[2][1]:.2f} x the throughput")


if __name__ == "__main__":
    main()
