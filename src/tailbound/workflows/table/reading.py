"""A table of times, from outside: one row per unit, every cell checked before anything is used."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.outside import shown
from tailbound.errors import UsageError
from tailbound.prompts import cells
from tailbound.prompts.opening import STANDARD_INPUT
from tailbound.prompts.tables import TABLE, Row, read_rows
from tailbound.survival import Geometric, Hazards, PredictedTimes
from tailbound.survival.predicted import event_rate

if TYPE_CHECKING:
    import polars as pl

PARTS = ("train", "calibration", "test")
_HAZARD = re.compile(r"h([1-9][0-9]*)")
_LATEST = 2**31 - 1

Recalibrated = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeTable:
    """n units with their times and predictions; a unit has a row.

    `time` is the number of draws up to and with the first event where `event`, and else the number
    of draws without one (the unit is censored there); both are None in a table of new units.
    `hazards`, shape (n, K), with `tail`, shape (n,), are predicted hazards by step; where they are
    None, `p_hat`, shape (n,), are predicted risks. `part` says what each unit is for, None where
    the table does not.
    """

    source: str
    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    part: tuple[str, ...] | None
    time: NDArray[np.int64] | None
    event: NDArray[np.bool_] | None
    p_hat: NDArray[np.float64] | None
    hazards: NDArray[np.float64] | None
    tail: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kind(self) -> str:
        """What the predictions are, in words: `p_hat`, or hazards of so many steps."""
        if self.hazards is None:
            return "p_hat"
        return f"hazards h1 .. h{self.hazards.shape[1]}"

    @property
    def predicted(self) -> PredictedTimes:
        """The predicted distribution of T of every unit."""
        if self.hazards is None:
            return Geometric(self.p_hat if self.p_hat is not None else ())
        return Hazards(self.hazards, tail=self.tail)

    def risk(self) -> NDArray[np.float64]:
        """Predicted events per draw: p_hat, or expected events over draws up to step K."""
        if self.hazards is None:
            assert self.p_hat is not None
            return self.p_hat
        steps = np.full(len(self), float(self.hazards.shape[1]))
        return event_rate(self.predicted, steps)

    def take(self, rows: NDArray[Any]) -> TimeTable:
        """The named rows, in that order."""

        def part(values: Any) -> Any:
            return None if values is None else values[rows]

        return TimeTable(
            source=self.source,
            ids=tuple(self.ids[i] for i in rows),
            groups=tuple(self.groups[i] for i in rows),
            part=None if self.part is None else tuple(self.part[i] for i in rows),
            time=part(self.time),
            event=part(self.event),
            p_hat=part(self.p_hat),
            hazards=part(self.hazards),
            tail=part(self.tail),
        )

    def recalibrated(self, change: Recalibrated | None) -> TimeTable:
        """The table with p_hat changed; as it is without `change`, or with hazards by step."""
        if change is None or self.p_hat is None:
            return self
        return replace(self, p_hat=change(self.p_hat))

    def digest(self) -> str:
        """A digest of everything in it but where it came from."""
        found = hashlib.sha256(json.dumps([self.ids, self.groups, self.part]).encode())
        for values in (self.time, self.event, self.p_hat, self.hazards, self.tail):
            found.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
        return found.hexdigest()[:16]

    def frame(self) -> pl.DataFrame:
        """As it is kept: `table_of` reads it back."""
        import polars as pl

        columns: dict[str, Any] = {
            "id": pl.Series(self.ids, dtype=pl.String),
            "group": pl.Series(self.groups, dtype=pl.String),
        }
        if self.part is not None:
            columns["split"] = pl.Series(self.part, dtype=pl.String)
        if self.time is not None and self.event is not None:
            columns |= {"time": self.time, "event": self.event}
        if self.hazards is None:
            columns["p_hat"] = self.p_hat
        else:
            columns |= {f"h{k + 1}": self.hazards[:, k] for k in range(self.hazards.shape[1])}
            columns["tail"] = self.tail
        return pl.DataFrame(columns)


_PREDICTED = "every unit needs a prediction"

TableSource = str | PathLike[str] | Iterable[Any]
"""A path (CSV, TSV, JSONL, JSON, Parquet; `-` is standard input), records, or a frame."""


def table_of(given: TableSource, *, new: bool = False) -> TimeTable:
    """The table of whatever `given` is; with `new`, one of units that nothing is known about yet.

    Columns: `id` (default: the number of the row), `time`, `event` (1 or true: an event at `time`;
    0 or false: none in `time` draws), `p_hat` or hazards by step `h1`, `h2`, ... with an optional
    `tail` (the hazard after the last, which it is by default), and optional `split` (train,
    calibration or test) and `group`. Other columns are passed over.

    Raises `UsageError` with the place of the first cell that is wrong.
    """
    if isinstance(given, (str, PathLike)):
        path = Path(given)
        rows = read_rows(path, what=TABLE)
        source = "standard input" if path == STANDARD_INPUT else str(path)
    else:
        rows, source = cells.records(given), "table"
    if not rows:
        raise UsageError(f"{source} has no rows: give one for each unit")
    columns = {name for row in rows for name in row.values}
    ids = _ids(rows, columns, source)
    time, event = (None, None) if new else _times(rows)
    p_hat, hazards, tail = _predictions(rows, columns, source)
    return TimeTable(
        source=source,
        ids=ids,
        groups=tuple(cells.text(row, "group") for row in rows),
        part=None if new else _parts(rows, columns),
        time=time,
        event=event,
        p_hat=p_hat,
        hazards=hazards,
        tail=tail,
    )


def _ids(rows: Sequence[Row], columns: set[str], source: str) -> tuple[str, ...]:
    if "id" not in columns:
        return tuple(str(number) for number in range(1, len(rows) + 1))
    seen: dict[str, str] = {}
    for row in rows:
        name = cells.text(row, "id")
        if name is None:
            raise UsageError(f"{row.place} has no id: give one for each unit, or no column id")
        if name in seen:
            raise UsageError(
                f"{row.place} repeats the id {name!r} of {seen[name]}: a unit has one row; name "
                "rewordings of one thing by the column group"
            )
        seen[name] = row.place
    return tuple(seen)


def _times(rows: Sequence[Row]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    time, event = np.empty(len(rows), dtype=np.int64), np.empty(len(rows), dtype=np.bool_)
    for number, row in enumerate(rows):
        event[number] = cells.flag(row, "event", about="1 for an event at time, 0 for none")
        value = cells.number(
            row, "time", about="the index of the first event, or draws without one"
        )
        if value != math.floor(value) or not event[number] <= value <= _LATEST:
            least = "1" if event[number] else "0"
            raise UsageError(
                f"{row.place}: time must be a whole number from {least} on, not "
                f"{shown(row.values['time'])}"
            )
        time[number] = int(value)
    return time, event


def _predictions(
    rows: Sequence[Row], columns: set[str], source: str
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """p_hat, or hazards and tail."""
    numbers = sorted(int(m.group(1)) for name in columns if (m := _HAZARD.fullmatch(name)))
    if not numbers and "p_hat" not in columns:
        raise UsageError(f"{source} has no predictions: give a column p_hat, or h1, h2, ...")
    if numbers and "p_hat" in columns:
        raise UsageError(f"{source} has p_hat and hazards {numbers[0]} ..: keep one of them")
    if not numbers:
        p = np.array([cells.probability(row, "p_hat", about=_PREDICTED) for row in rows])
        zero = np.flatnonzero(p == 0)
        if zero.size:
            raise UsageError(
                f"{rows[int(zero[0])].place}: p_hat is 0: give a small positive number instead"
            )
        return p, None, None
    if numbers != list(range(1, len(numbers) + 1)):
        lacking = next(k for k in range(1, numbers[-1] + 1) if k not in set(numbers))
        raise UsageError(f"{source} has hazards up to h{numbers[-1]} and no h{lacking}")
    names = [f"h{k}" for k in numbers]
    hazards = np.array(
        [[cells.probability(row, name, about=_PREDICTED) for name in names] for row in rows]
    )
    tail = hazards[:, -1].copy()
    if "tail" in columns:
        tail = np.array([cells.probability(row, "tail", about=_PREDICTED) for row in rows])
    return None, hazards, tail


def _parts(rows: Sequence[Row], columns: set[str]) -> tuple[str, ...] | None:
    if "split" not in columns:
        return None
    found = []
    for row in rows:
        name = cells.text(row, "split")
        if name not in PARTS:
            raise UsageError(
                f"{row.place}: split must be one of {', '.join(PARTS)}, not "
                f"{shown(row.values.get('split'))}"
            )
        found.append(name)
    return tuple(found)
