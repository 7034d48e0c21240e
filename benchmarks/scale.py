"""The arithmetic of docs/scale.md, and what of its inputs can be measured on this machine.

.venv/bin/python benchmarks/scale.py            # the tables of the page
.venv/bin/python benchmarks/scale.py --measure  # ledger and calibration, measured here
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Inputs:
    """Everything that a plan rests on; times in seconds, prices in dollars."""

    prompts: float = 1e6
    draws: float = 1e3
    prompt_tokens: float = 100
    response_tokens: float = 128
    gpus: float = 64
    tokens_per_gpu: float = 5_777
    """Output tokens a second of one H100, Llama-3.1-8B in FP8 on vLLM: MLPerf Inference v5.1."""
    gpu_hour: float = 2.5
    judge_tokens: float = 1
    """Output tokens that the judge gives for each draw, at the rate of the target."""
    price_in: float = 0.05
    price_out: float = 0.08
    """Dollars per million tokens of a hosted 8B model: a parameter, not a quotation."""
    hosted_tokens: float = 100_000
    """Output tokens a second that the service lets one account have."""
    coordinator: float = 136e-6
    """CPU of the coordinator per draw: a trial of two Ray nodes, 130 to 142 us."""
    schedule: float = 19e-6
    """Of which the schedule takes, at 1e6 prompts; it grows with the number of prompts."""
    bytes_text: float = 420
    bytes_bare: float = 10
    """Bytes a row of the ledger, with and without responses, in shards of 4,096 rows: --measure."""
    row_write: float = 110e-6
    """CPU to write a row with its response: --measure. Counted besides `coordinator`."""
    hash_rate: float = 5e8
    """Bytes a second of one core that checks seals (SHA-256): --measure."""
    index_bytes: float = 20
    """Memory per draw of the index that a resumed run reads: int64, float64 and int32."""
    calibrate: float = 0.2
    """CPU-seconds to calibrate 1e6 prompts: benchmarks/calibration.py."""


def plan(given: Inputs) -> dict[str, float]:
    """Every figure of the page, by its name."""
    draws = given.prompts * given.draws
    out = draws * given.response_tokens
    gpu_seconds = draws * (given.response_tokens + given.judge_tokens) / given.tokens_per_gpu
    wall = gpu_seconds / given.gpus
    into = draws * given.prompt_tokens
    rate = draws / wall
    schedule = given.schedule * given.prompts / 1e6
    coordinator = given.coordinator - given.schedule + schedule + given.row_write
    return {
        "draws": draws,
        "output tokens": out,
        "GPU hours": gpu_seconds / 3600,
        "hours on the GPUs": wall / 3600,
        "dollars for GPUs": gpu_seconds / 3600 * given.gpu_hour,
        "draws a second": rate,
        "driver CPU hours": draws * coordinator / 3600,
        "driver cores in use": rate * coordinator,
        "GPUs that one core feeds": 1 / (coordinator * rate / given.gpus),
        "bytes of draws with responses": draws * given.bytes_text,
        "bytes of draws without responses": draws * given.bytes_bare,
        "bytes a second to the disk": rate * given.bytes_text,
        "shards of 4,096 rows": draws / 4096,
        "hours to check all seals on resume": draws * given.bytes_text / given.hash_rate / 3600,
        "bytes of memory for the index on resume": draws * given.index_bytes,
        "calibration, CPU-seconds": given.calibrate * given.prompts / 1e6,
        "hosted: dollars": (into * given.price_in + out * given.price_out) / 1e6,
        "hosted: hours": out / given.hosted_tokens / 3600,
        "hosted: requests a second": given.hosted_tokens / given.response_tokens,
    }


SIZES = {"planned": (1, 1), "10x the draws": (1, 10), "10x the prompts": (10, 1)}


def rows(given: Inputs) -> Iterator[str]:
    """The table of docs/scale.md, line by line."""
    plans = [
        plan(replace(given, prompts=given.prompts * p, draws=given.draws * d))
        for p, d in SIZES.values()
    ]
    yield f"| figure | {' | '.join(SIZES)} |"
    yield f"| --- |{' ---: |' * len(plans)}"
    for name in plans[0]:
        yield f"| {name} | {' | '.join(_shown(one[name]) for one in plans)} |"


def _shown(value: float) -> str:
    if value >= 1e6:
        power = math.floor(math.log10(value))
        return f"{value / 10**power:.3g}e{power}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measure() -> None:
    """Bytes and CPU of a row of the ledger, and the time of a calibration, on this machine."""
    from tailbound.core.contract import Draw, SamplingContract, SamplingOptions, Verdict
    from tailbound.runs.ledger import Ledger

    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(5_000)]
    contract = SamplingContract.resolved(
        SamplingOptions(), target="x", revision=None, precision="float32"
    )
    shards, tokens = 3, 128
    # words as frequent as those of a language: the n-th in proportion to 1 / n
    share = 1 / np.arange(1, len(words) + 1)
    said = rng.choice(len(words), p=share / share.sum(), size=(shards * 4096, tokens))
    drawn = [
        Draw(
            prompt_id=f"prompt-{number // 1000}",
            stream="calibration",
            index=number % 1000 + 1,
            text=" ".join(words[n] for n in ids),
            token_ids=tuple(map(int, ids)),
            finish_reason="length",
            log_prob=-float(rng.gamma(100.0)),
        )
        for number, ids in enumerate(said)
    ]
    verdicts = [Verdict(float(unsafe)) for unsafe in rng.random(len(said)) < 1e-3]
    for store in (True, False):
        with tempfile.TemporaryDirectory() as place:
            begun = time.process_time()
            with Ledger.open(
                place, run="r", contract=contract, judge_id="j", seed=0, store_text=store
            ) as ledger:
                for draw, verdict in zip(drawn, verdicts, strict=True):
                    ledger.append(draw, verdict, "fixed")
            took = time.process_time() - begun
            size = sum(path.stat().st_size for path in Path(place).glob("draws/*.parquet"))
        kind = "with" if store else "without"
        print(
            f"{kind} responses of {tokens} tokens: {size / len(said):.0f} bytes a row, "
            f"{took / len(said) * 1e6:.0f} us of CPU a row"
        )
    data = bytes(2**28)
    begun = time.process_time()
    hashlib.sha256(data)
    print(f"SHA-256: {len(data) / (time.process_time() - begun):.2g} bytes a CPU-second")


def main() -> None:
    """Print the table, or measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", action="store_true")
    if parser.parse_args().measure:
        measure()
    else:
        print("\n".join(rows(Inputs())))


if __name__ == "__main__":
    main()
