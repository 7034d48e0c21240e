"""Results of two runs that may differ by rounding alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROUNDING = 1e-5


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value of a JSON document, with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{place}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from numbers(inner, f"{place}/{number}")
    else:
        yield place, value


def assert_close(ours: Path, theirs: Path) -> None:
    """Equal but for the last digits of numbers, and the seal that they change."""
    found, expected = (
        dict(numbers(json.loads(path.read_text()) | {"checksum": None})) for path in (ours, theirs)
    )
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if place.endswith("z"):  # a small difference in units of a small error
            assert found[place] == pytest.approx(value, abs=1e-3), place
        elif isinstance(value, float):
            assert found[place] == pytest.approx(value, rel=ROUNDING, abs=1e-12), place
        else:
            assert found[place] == value, place
