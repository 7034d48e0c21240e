"""The order of the tests where several processes share them: long ones first, on each of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

#: CPU-seconds of the files that take longest, slow tests included; roughly: it is only an order.
SECONDS = {
    "tests/demo/test_risk.py": 150,
    "tests/faults/test_signals.py": 150,
    "tests/huggingface/test_smollm2.py": 120,
    "tests/importance_sampling/test_exact_bed.py": 100,
    "tests/workflows/risk/test_exact_bed.py": 95,
    "tests/importance_sampling/test_splitting.py": 90,
    "tests/survival/test_replicates.py": 90,
    "tests/cli/test_killed.py": 90,
    "tests/endpoint/test_real_servers.py": 80,
    "tests/cli/test_damaged_folders.py": 80,
    "tests/deployment/test_simulated_forecasts.py": 130,
    "tests/targets/test_demo_target.py": 80,
    "tests/workflows/risk/test_adapter.py": 80,
    "tests/workflows/risk/test_routes.py": 65,
    "tests/workflows/report/test_browser.py": 60,
    "tests/workflows/report/test_view_browser.py": 50,
    "tests/importance_sampling/test_long_horizon.py": 60,
    "tests/predictors/test_demo_quality.py": 60,
    "tests/runs/test_killing.py": 40,
}


def balanced(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in an order that keeps `workers` processes busy to the end.

    `--dist worksteal` gives each process an equal number of consecutive tests, and moves the last
    ones of a queue when another is empty. So each queue begins with its share of the files in
    `SECONDS`, the longest first; the short tests at its end even out the rest. Tests of a file stay
    together, because they share fixtures.
    """
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    queues: list[list[pytest.Item]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for name in sorted(files.keys() & SECONDS.keys(), key=lambda name: (-SECONDS[name], name)):
        least = loads.index(min(loads))
        queues[least] += files.pop(name)
        loads[least] += SECONDS[name]
    short = [item for some in files.values() for item in some]
    left = len(items)
    for number, queue in enumerate(queues):
        fits = max(0, left // (workers - number) - len(queue))
        queue += short[:fits]
        del short[:fits]
        left -= len(queue)
    return [item for queue in queues for item in queue] + short
