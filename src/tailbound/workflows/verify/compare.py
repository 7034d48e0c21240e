"""What differs between a document on record and the same made again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tailbound.workflows.verify.result import Difference

if TYPE_CHECKING:
    import polars as pl


def differences(
    recorded: Any, found: Any, *, tolerance: float, place: str = ""
) -> Iterator[Difference]:
    """Every place where two plain values differ; floats by more than `tolerance`, relatively.

    Whole numbers, texts, None and lengths must be the same. Members of a list that have an `id` are
    named by it.

    >>> list(differences({"a": [1, 2.0]}, {"a": [1, 2.5]}, tolerance=1e-9))
    [Difference(place='a[1]', recorded=2.0, found=2.5)]
    """
    if isinstance(recorded, Mapping) and isinstance(found, Mapping):
        for name in dict.fromkeys([*recorded, *found]):
            inner = f"{place}.{name}" if place else str(name)
            if name in recorded and name in found:
                yield from differences(
                    recorded[name], found[name], tolerance=tolerance, place=inner
                )
            else:
                yield Difference(
                    place=inner,
                    recorded=_short(recorded.get(name, "(absent)")),
                    found=_short(found.get(name, "(absent)")),
                )
    elif _is_list(recorded) and _is_list(found):
        if len(recorded) != len(found):
            yield Difference(place=f"length of {place}", recorded=len(recorded), found=len(found))
            return
        for number, (old, new) in enumerate(zip(recorded, found, strict=True)):
            mark = old.get("id", number) if isinstance(old, Mapping) else number
            yield from differences(old, new, tolerance=tolerance, place=f"{place}[{mark}]")
    elif not _equal(recorded, found, tolerance):
        yield Difference(place=place, recorded=_short(recorded), found=_short(found))


def table_differences(
    recorded: pl.DataFrame, found: pl.DataFrame, *, tolerance: float
) -> Iterator[Difference]:
    """Every cell in which two tables differ; columns, types and the number of rows must agree."""
    if dict(recorded.schema) != dict(found.schema):
        yield Difference(
            place="columns",
            recorded=", ".join(f"{name} {kind}" for name, kind in recorded.schema.items()),
            found=", ".join(f"{name} {kind}" for name, kind in found.schema.items()),
        )
        return
    yield from differences(
        [_plain(row) for row in recorded.iter_rows(named=True)],
        [_plain(row) for row in found.iter_rows(named=True)],
        tolerance=tolerance,
        place="rows",
    )


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with None for NaN, which equals nothing."""
    return {name: None if value != value else value for name, value in row.items()}


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _equal(recorded: Any, found: Any, tolerance: float) -> bool:
    numbers = all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in (recorded, found)
    )
    if not numbers or (isinstance(recorded, int) and isinstance(found, int)):
        return type(recorded) is type(found) and bool(recorded == found)
    return math.isclose(recorded, found, rel_tol=tolerance, abs_tol=0.0)


def _short(value: Any) -> Any:
    """`value` as it is shown: long texts and whole objects cut."""
    if isinstance(value, Mapping) or _is_list(value):
        value = str(value)
    return f"{value[:197]}..." if isinstance(value, str) and len(value) > 200 else value
