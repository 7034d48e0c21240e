"""Records and their cells, as tables of any kind hold them: one row each, with its place in errors.

Nothing in a cell is trusted: text is cleaned, numbers must be finite, and what is wrong is named
with its row and column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tailbound.core.outside import clean_text, shown
from tailbound.errors import UsageError
from tailbound.prompts.tables import Row

TRUE, FALSE = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no"})


def records(given: Any) -> list[Row]:
    """The rows of a frame (Polars or pandas), or of mappings from column to value.

    Raises `UsageError` for anything else.

    >>> records([{"p": 0.1}])[0].place
    'table row 1'
    """
    if hasattr(given, "to_dicts"):  # a frame of Polars
        given = given.to_dicts()
    elif hasattr(given, "to_dict") and hasattr(given, "columns"):  # of pandas
        given = given.to_dict("records")
    if isinstance(given, (Mapping, bytes)) or not isinstance(given, Iterable):
        raise UsageError(f"the table is {shown(given)}: give a path, records or a frame")
    rows = []
    for place, record in enumerate(given, start=1):
        if not isinstance(record, Mapping):
            raise UsageError(f"table row {place} is {shown(record)}, not a record of columns")
        rows.append(Row(f"table row {place}", dict(record)))
    return rows


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, an empty text or NaN."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text(row: Row, name: str) -> str | None:
    """The cell `name` as clean text, None where it is empty; `UsageError` for other kinds.

    >>> text(Row("row 1", {"id": 7}), "id")
    '7'
    """
    value = row.values.get(name)
    if is_empty(value):
        return None
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return clean_text(str(value))
    raise UsageError(f"{row.place}: {name} must be a text or a number, not {shown(value)}")


def number(row: Row, name: str, *, about: str = "give a number") -> float:
    """The finite number in the cell `name`; `about` says what an empty one lacks.

    Raises `UsageError` for anything else.

    >>> number(Row("row 1", {"p": "1e-3"}), "p")
    0.001
    """
    value = row.values.get(name)
    if value is None or value == "":
        raise UsageError(f"{row.place} has no {name!r}: {about}")
    try:
        if isinstance(value, bool):
            raise ValueError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"{row.place}: {name} must be a number, not {shown(value)}")
    return found


def probability(row: Row, name: str, *, about: str = "give a number") -> float:
    """The number in [0, 1] in the cell `name`, as `number`; `UsageError` for anything else."""
    found = number(row, name, about=about)
    if not 0 <= found <= 1:
        raise UsageError(
            f"{row.place}: {name} is a probability in [0, 1], not {shown(row.values[name])}"
        )
    return found


def flag(row: Row, name: str, *, about: str) -> bool:
    """True for 1, true or yes, False for 0, false or no; `about` says what an empty cell lacks.

    Raises `UsageError` for anything else.

    >>> flag(Row("row 1", {"event": "yes"}), "event", about="")
    True
    """
    value = row.values.get(name)
    word = str(value).strip().lower().removesuffix(".0")
    if word in TRUE or word in FALSE:
        return word in TRUE
    if value is None or value == "":
        raise UsageError(f"{row.place} has no {name!r}: {about}")
    raise UsageError(f"{row.place}: {name} must be 1 or 0 (true or false), not {shown(value)}")
