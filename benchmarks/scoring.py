r"""Scoring replies to many prompts in shared passes, against one prompt after the other: CPU time.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/scoring.py hf:MODEL [--prompts 16] [--replies 12]
        [--tokens 32] [--repeats 2]

Replies are random tokens, a quarter of `--tokens` to all of them; the target and its heated variant
are scored. Every prompt has been read before either way is timed.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.targets.capabilities import WhiteBox
from tailbound.targets.decoding.proposals import heated
from tailbound.targets.registry import load_target


def main() -> None:
    """Time both ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--replies", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    target = load_target(options.target, SamplingOptions(max_new_tokens=options.tokens))
    assert isinstance(target, WhiteBox)
    engine = target.with_variants([heated(target, 4.0, name="heated")])
    rng = np.random.default_rng(0)
    prompts = [
        Prompt(id=str(number), messages=(("user", "really " * (number % 5) + f"number {number}?"),))
        for number in range(options.prompts)
    ]
    vocabulary = target.network.vocabulary
    said = [
        tuple(rng.integers(vocabulary, size=rng.integers(options.tokens // 4, options.tokens + 1)))
        for _ in range(options.prompts * options.replies)
    ]
    asked = [prompt for prompt in prompts for _ in range(options.replies)]
    for prompt in prompts:
        engine.score(prompt, said[:1])
    for _ in range(options.repeats):
        started = time.process_time()
        for number, prompt in enumerate(prompts):
            engine.score(prompt, said[number * options.replies : (number + 1) * options.replies])
        alone = time.process_time() - started
        started = time.process_time()
        engine.score_all(asked, said)
        shared = time.process_time() - started
        print(
            f"one prompt after the other {alone:.1f} s, in shared passes {shared:.1f} s: "
            f"{shared / alone:.2f}"
        )


if __name__ == "__main__":
    main()
