"""Sizes of simulations: of every run of the tests, and of those that figures in the docs come from.

`FULL_SIZE=1 .venv/bin/pytest -m slow tests/demo/test_risk.py -s` repeats a test at its full size.
"""

from __future__ import annotations

import os

FULL_SIZE = bool(os.environ.get("FULL_SIZE"))


def size(usual: int, full: int) -> int:
    """`full` if the environment asks for it by `FULL_SIZE`, else `usual`."""
    return full if FULL_SIZE else usual
