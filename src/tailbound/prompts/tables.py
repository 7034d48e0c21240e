"""Rows of a JSONL, CSV or Parquet file, each with the place to name in an error."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from tailbound.errors import UsageError
from tailbound.outside import OutsideError, parse_json


class Row(NamedTuple):
    """One record and where it stands, for instance `prompts.jsonl line 3`."""

    place: str
    values: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """All records of the file, by the ending of its name.

    Raises `UsageError` with the place where the file is missing, of another kind, or unreadable.
    """
    readers = {
        ".jsonl": _jsonl,
        ".ndjson": _jsonl,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if not path.exists():
        raise UsageError(f"no prompt file {path}: check the path")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the prompt file in it")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"{path} ends in {path.suffix or 'nothing'!r}: rows are read from "
            f"{', '.join(readers)} files"
        )
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def _jsonl(path: Path) -> list[Row]:
    rows: list[Row] = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path} line {number}"
            try:
                values = parse_json(line)
            except OutsideError as error:
                raise UsageError(
                    f"{place} is not JSON ({error}): JSONL has one object per line"
                ) from error
            if not isinstance(values, dict):
                raise UsageError(
                    f"{place} is {_kind(values)}, not an object: JSONL has one object {{...}} per "
                    "line"
                )
            rows.append(Row(place, values))
    return rows


def _csv(path: Path) -> list[Row]:
    rows: list[Row] = []
    csv.field_size_limit(2**31 - 1)  # responses may be longer than the 131,072 of the default
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise UsageError(f"{path} has two columns {twice!r}: rename one")
            start = reader.line_num + 1
            for cells in reader:
                place = f"{path} line {start}"
                start = reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UsageError(
                        f"{place} has {len(cells)} cells and the header {len(header)}: "
                        "put cells that contain commas or line breaks in double quotes"
                    )
                rows.append(Row(place, dict(zip(header, cells, strict=True))))
        except csv.Error as error:
            raise UsageError(f"{path} line {reader.line_num} is not CSV: {error}") from error
    return rows


def _parquet(path: Path) -> list[Row]:
    import polars as pl

    try:
        frame = pl.read_parquet(path, glob=False)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{path} is not a Parquet file: {error}") from error
    return [
        Row(f"{path} row {number}", values)
        for number, values in enumerate(frame.iter_rows(named=True), start=1)
    ]


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
