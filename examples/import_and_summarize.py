"""Draws that were made elsewhere: from a table of scores to exact intervals.

python examples/import_and_summarize.py [FOLDER]
"""

import json
import random
import sys
from pathlib import Path

import tailbound


def write_table(path: Path) -> None:
    """200 scores for each of 20 prompts, as an evaluation might have left them."""
    rng = random.Random(0)
    with path.open("w") as lines:
        for prompt in range(20):
            risk = 10 ** rng.uniform(-4, -1.5)
            for _ in range(200):
                row = {"prompt_id": f"prompt-{prompt:02}", "score": float(rng.random() < risk)}
                lines.write(json.dumps(row) + "\n")


def main(folder: Path) -> None:
    """Import a table, and print what it says about each prompt and about the set."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "scores.jsonl"
    write_table(table)
    tailbound.import_draws(table, folder / "imported", judge_name="score")
    summary = tailbound.summarize(folder / "imported", k=(1, 100))
    print(summary.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
