"""What a large ledger takes: python benchmarks/ledger_size.py [ROWS] [PROMPTS] [ROWS PER SHARD]

A ledger of ROWS draws of PROMPTS prompts without texts, every tenth prompt with an unsafe draw.
Then its totals by stream, and a resume: from the open folder to the first draw that is asked for.
Seconds of CPU and by the clock (shards are read by several threads), and the most memory taken.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from tailbound.audit import Schedule
from tailbound.core.contract import SamplingContract, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.runs import Ledger
from tailbound.runs.draws import draw_store, totals
from tailbound.runs.layout import DRAWS
from tailbound.runs.schema import SCHEMA_VERSION, columns


def write(folder: Path, rows: int, prompts: int, per_shard: int) -> SamplingContract:
    """The ledger."""
    options = SamplingOptions(max_new_tokens=128)
    contract = SamplingContract.resolved(options, target="none", revision=None, precision="none")
    with Ledger.open(folder, run="size", contract=contract, judge_id="none", seed=0):
        pass
    store, rng = draw_store(folder), np.random.default_rng(0)
    each = rows // prompts
    for start in range(0, rows, per_shard):
        number = np.arange(start, min(start + per_shard, rows))
        # draw by draw over all prompts, as a fixed number of draws is sampled
        prompt, index = number % prompts, number // prompts + 1
        score = ((prompt % 10 == 0) & (index == each // 2 + 1)).astype(np.float64)
        frame = pl.DataFrame({"prompt_id": prompt, "index": index, "score": score})
        known = {
            "schema": SCHEMA_VERSION,
            "run": "size",
            "contract": contract.digest,
            "judge": "none",
            "seed": 0,
            "stream": "train",
            "stopping": "fixed",
            "tokens": 100,
            "finish_reason": "stop",
            "log_prob": -50.0,
            "verdict": "scored",
        }
        frame = frame.with_columns(
            pl.format("prompt-{}", "prompt_id").alias("prompt_id"),
            log_prob=pl.Series(-100 * rng.random(len(number))),
            **{name: pl.lit(value) for name, value in known.items() if name != "log_prob"},
        )
        schema = columns()
        frame = frame.select(
            pl.col(name).cast(kind) if name in frame.columns else pl.lit(None, kind).alias(name)
            for name, kind in schema.items()
        )
        store.write(frame)
    return contract


def measured(what: str, work: Callable[[], object]) -> None:
    """Do the work and print what it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{what:>28}: {cpu:6.1f} CPU-s, {wall:6.1f} s, at most {most:5.2f} GiB so far", flush=True
    )


def main() -> None:
    given = [int(float(one)) for one in sys.argv[1:]]
    rows, prompts, per_shard = [*given, *(1_000_000, 10_000, 4096)[len(given) :]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract = write(folder, rows, prompts, per_shard)
        size = sum(path.stat().st_size for path in (folder / DRAWS).iterdir())
        shards = len(list((folder / DRAWS).glob("*.parquet")))
        what = f"{rows:,} draws of {prompts:,} prompts, {shards:,} shards"
        print(f"{what}, {size / rows:.1f} bytes a row", flush=True)
        measured("totals by stream", lambda: totals(folder))

        def resume() -> None:
            with Ledger.open(
                folder, run="size", contract=contract, judge_id="none", seed=0
            ) as ledger:
                asked = [Prompt(id=f"prompt-{n}", messages=()) for n in range(prompts)]
                schedule = Schedule(
                    asked,
                    stream="train",
                    threshold=0.5,
                    stop_at_event=False,
                    width=1,
                    record=ledger.index("train"),
                )
                schedule.extend(np.arange(prompts), np.full(prompts, rows // prompts + 1))
                assert schedule.remaining() == prompts
                schedule.next_requests(1)

        measured("resume to the first request", resume)


if __name__ == "__main__":
    main()
