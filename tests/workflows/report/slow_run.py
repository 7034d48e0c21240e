"""A bound that waits at certain draws until it is let go on: `slow_run.py FOLDER DRAW...`.

Before draw number DRAW of the process it waits for the file `FOLDER.DRAW`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import tailbound
from tailbound.core.contract import Draw, DrawRequest
from tailbound.runs import Ledger
from tailbound.testing import KnownRiskTarget, WordJudge


class Waiting(KnownRiskTarget):
    made = 0

    def _draw(self, request: DrawRequest, seed: int) -> Draw:
        Waiting.made += 1
        if str(Waiting.made) in sys.argv[2:]:
            while not Path(f"{sys.argv[1]}.{Waiting.made}").exists():
                time.sleep(0.02)
        return super()._draw(request, seed)


def main() -> None:
    Ledger.open.__func__.__kwdefaults__["flush_rows"] = 50  # type: ignore[attr-defined]
    rng = np.random.default_rng(1)
    ids = [f"<i>p{number}</i>" for number in range(120)]
    tailbound.bound(
        [{"id": name, "prompt": f"{name} asks"} for name in ids],
        out=sys.argv[1],
        target=Waiting({name: float(10 ** rng.uniform(-2, -0.7)) for name in ids}),
        judge=WordJudge(),
        budget=20,
        train_draws=30,
        test_draws=30,
        progress=None,
    )


if __name__ == "__main__":
    main()
