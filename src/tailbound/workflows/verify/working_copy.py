"""A copy of a run folder in which results can be made again, without those on record."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailbound.runs import layout

RESULTS = (
    *(layout.BOUND, layout.EVALUATION, layout.PREDICTIONS),
    *(layout.RISK, layout.RISK_TABLE, layout.REVIEW),
    *(layout.SUMMARY, layout.AGREEMENT, layout.SPEND),
)
"""What is made again: left out of the copy, wherever it stands."""


@contextmanager
def working_copy(folder: Path) -> Iterator[Path]:
    """A temporary folder with links to the record of `folder`, which is not written to."""
    with tempfile.TemporaryDirectory(prefix="tailbound-verify-") as made:
        copy = Path(made) / "run"
        for here, folders, files in os.walk(folder):
            folders[:] = [
                name for name in folders if not name.startswith(".") and name != layout.RESULTS
            ]
            there = copy / Path(here).relative_to(folder)
            there.mkdir(parents=True, exist_ok=True)
            for name in files:
                if not name.startswith(".") and name not in RESULTS:
                    _link(Path(here).resolve() / name, there / name)
        yield copy


def _link(source: Path, place: Path) -> None:
    try:
        place.symlink_to(source)
    except OSError:  # links need a right that not everybody has on Windows
        shutil.copyfile(source, place)
