"""A process that appends to a ledger, for tests that kill it.

Usage: writer.py FOLDER PROMPTS DRAWS

It continues where the ledger ends, records draw 1 .. DRAWS of each prompt, flushes every 16 rows,
and prints one line per flush: the number of draws that are safely on the disk.
"""

import sys
from pathlib import Path

from tailbound.core.contract import Draw, SamplingContract, Verdict
from tailbound.runs import Ledger

CONTRACT = SamplingContract(
    target="test",
    revision=None,
    template=None,
    system=None,
    temperature=1.0,
    top_p=1.0,
    top_k=None,
    max_new_tokens=8,
    stop_ids=(0,),
    stop=(),
    precision="exact",
)


def make_draw(prompt: int, index: int, stream: str = "s") -> Draw:
    return Draw(
        prompt_id=f"p{prompt}",
        stream=stream,
        index=index,
        token_ids=(prompt, index, 0),
        text=f"{prompt} {index}",
        finish_reason="stop",
        log_prob=-float(index),
    )


def make_verdict(prompt: int, index: int) -> Verdict:
    return Verdict(None, "no idea") if (prompt + index) % 5 == 0 else Verdict(index % 3 / 2)


def open_ledger(folder: Path, **options: int) -> Ledger:
    return Ledger.open(folder, run="test", contract=CONTRACT, judge_id="judge@1", seed=7, **options)


def main(folder: Path, prompts: int, draws: int) -> None:
    with open_ledger(folder) as ledger:
        print("open", flush=True)
        done = ledger.index("s")
        have = {name: set(record.indices.tolist()) for name, record in done.items()}
        safe = sum(map(len, have.values()))
        buffered = 0
        for index in range(1, draws + 1):
            for prompt in range(prompts):
                if index in have.get(f"p{prompt}", ()):
                    continue
                ledger.append(make_draw(prompt, index), make_verdict(prompt, index), "fixed")
                buffered += 1
                if buffered == 16:
                    ledger.flush()
                    safe += buffered
                    buffered = 0
                    print(safe, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
