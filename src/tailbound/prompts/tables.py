"""Rows of a table or list, each with the place to name in an error."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tailbound.core.outside import OutsideError, parse_json
from tailbound.errors import UsageError
from tailbound.prompts.opening import COMPRESSED, STANDARD_INPUT, decode, read_bytes, suffix_of


class Row(NamedTuple):
    """One record and where it stands, for instance `prompts.jsonl line 3`."""

    place: str
    values: dict[str, Any]


PROMPTS, TABLE = "prompt file", "table"
"""What errors call the file that is read."""


def read_rows(path: Path, *, what: str = PROMPTS) -> list[Row]:
    """All records of the file, by the ending of its name; `-` is standard input.

    JSONL, JSON (an array, or an object that holds one), CSV, TSV, Parquet, and text with one
    prompt per line; each also as `.gz` or `.zst`. Standard input is JSONL, JSON or lines of text;
    where `what` is something else than a file of prompts, CSV or TSV in place of text. Blank lines
    are passed over.

    Raises `UsageError` with the place where the file is missing, of another kind, or unreadable.
    """
    if path == STANDARD_INPUT:
        return _standard_input(read_bytes(path), "standard input", prompts=what == PROMPTS)
    if not path.exists():
        raise UsageError(f"no {what} {path}: check the path")
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the {what} in it")
    reader = _READERS.get(suffix_of(path))
    if reader is None:
        raise UsageError(
            f"{path} ends in {path.suffix or 'nothing'!r}: rows are read from "
            f"{', '.join(_READERS)} files, and from these with {' or '.join(COMPRESSED)} appended"
        )
    return reader(_content(path), str(path))


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def read_lines(data: bytes, source: str) -> Iterator[tuple[str, str]]:
    """(place, line) of every line that is not blank."""
    # StringIO ends lines as files do; str.splitlines also would at characters inside of a text
    for number, line in enumerate(io.StringIO(decode(data, source), newline=None), start=1):
        if line.strip():
            yield f"{source} line {number}", line.rstrip("\n")


def parse_line(line: str, place: str) -> Row:
    """The JSON object of one line; raises `UsageError` with the place where it is none."""
    values = parse_value(line, place, cure=": JSONL has one object per line")
    if not isinstance(values, dict):
        raise UsageError(
            f"{place} is {kind(values)}, not an object: JSONL has one object {{...}} per line"
        )
    return Row(place, values)


def parse_value(text: str, place: str, *, cure: str = "") -> Any:
    """The JSON document `text`; raises `UsageError` with the place, and `cure` after the reason."""
    try:
        return parse_json(text)
    except OutsideError as error:
        raise UsageError(f"{place} is not JSON ({error}){cure}") from error


def is_index(name: str) -> bool:
    """Whether a column is the row numbers of another tool, which wrote them without a name."""
    return not name.strip() or name.startswith(("Unnamed: ", "__index_level_"))


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {
        list: "a list",
        dict: "an object",
        str: "a string",
        bool: "a truth value",
        type(None): "null",
    }
    return names.get(type(value), "a number")


def read_cut_jsonl(path: Path) -> tuple[list[Row], str | None]:
    """The rows of a JSONL file, and the place of the last line where whoever wrote it was stopped.

    That line ends neither as JSON nor with a line break, and is left out.
    """
    source = str(path)
    data = _content(path)
    lines = list(read_lines(data, source))
    cut = None
    if lines and not data.endswith((b"\n", b"\r", b"\n\x00")):
        place, line = lines[-1]
        try:
            parse_json(line)
        except OutsideError:
            cut = place
            lines.pop()
    return [parse_line(line, place) for place, line in lines], cut


def _jsonl(data: bytes, source: str) -> list[Row]:
    lines = list(read_lines(data, source))
    if lines and lines[0][1].strip() == "[":  # an array over many lines, under another name
        return _json(data, source)
    return [parse_line(line, place) for place, line in lines]


def _json(data: bytes, source: str) -> list[Row]:
    try:
        document = parse_json(decode(data, source))
    except OutsideError as error:
        raise UsageError(f"{source} is not JSON ({error})") from error
    where = source
    if isinstance(document, dict):
        lists = [name for name, value in document.items() if isinstance(value, list)]
        if len(lists) != 1:
            held = f"{len(lists)} lists ({', '.join(lists[:5])})" if lists else "no list"
            raise UsageError(
                f"{source} is an object with {held}: give an array of objects, one per row"
            )
        where, document = f"{source} {lists[0]!r}", document[lists[0]]
    if not isinstance(document, list):
        raise UsageError(f"{source} is {kind(document)}: give an array of objects, one per row")
    return [
        Row(place, _record(value, place))
        for number, value in enumerate(document, start=1)
        for place in (f"{where} item {number}",)
    ]


def _record(value: Any, place: str) -> dict[str, Any]:
    """An item of an array: an object, a text, or a list of chat messages."""
    if isinstance(value, str):
        return {"prompt": value}
    if isinstance(value, list):
        return {"messages": value}
    if not isinstance(value, dict):
        raise UsageError(f"{place} is {kind(value)}, not an object or a text")
    return value


def _text(data: bytes, source: str) -> list[Row]:
    return [Row(place, {"prompt": line}) for place, line in read_lines(data, source)]


def _standard_input(data: bytes, source: str, *, prompts: bool) -> list[Row]:
    """JSONL or JSON by the first character, else lines of text, or CSV or TSV without `prompts`.

    A table of prompts must come as a file, with its ending: its cells may be lines of text.
    """
    text = decode(data, source).lstrip()
    if text.startswith("{"):
        try:
            return _jsonl(data, source)
        except UsageError:
            if "\n" not in text.strip() or text.split("\n", 1)[0].strip().endswith("}"):
                raise
            return _json(data, source)  # one object over many lines
    if text.startswith("["):
        return _json(data, source)
    first = text.partition("\n")[0].lower()
    if not prompts:
        return _tsv(data, source) if "\t" in first and "," not in first else _csv(data, source)
    cells = {cell.strip(' "\r') for separator in ",\t" for cell in first.split(separator)}
    if cells & {"prompt", "goal", "behavior", "instruction", "forbidden_prompt", "messages"}:
        raise UsageError(
            f"{source} begins like a table ({first[:60]!r}): give it as a .csv or .tsv file, or as "
            "JSONL"
        )
    return _text(data, source)


def _csv(data: bytes, source: str, delimiter: str = ",") -> list[Row]:
    rows: list[Row] = []
    csv.field_size_limit(2**31 - 1)  # responses may be longer than the 131,072 of the default
    file = io.StringIO(decode(data, source), newline="")
    reader = csv.reader(file, strict=True, delimiter=delimiter)
    try:
        header = next((cells for cells in reader if any(map(str.strip, cells))), [])
        names = [name for name in header if not is_index(name)]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"{source} has two columns {twice!r}: rename one")
        start = reader.line_num + 1
        for cells in reader:
            place = f"{source} line {start}"
            start = reader.line_num + 1
            if not cells or (len(cells) == 1 < len(header) and not cells[0].strip()):
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{place} has {len(cells)} cells and the header {len(header)}: "
                    f"put cells that contain {'tabs' if delimiter == chr(9) else 'commas'} or line "
                    "breaks in double quotes"
                )
            rows.append(Row(place, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise UsageError(f"{source} line {reader.line_num} is not CSV: {error}") from error
    return rows


def _tsv(data: bytes, source: str) -> list[Row]:
    return _csv(data, source, delimiter="\t")


def _parquet(data: bytes, source: str) -> list[Row]:
    from tailbound.storage.parquet import DamagedParquetError, parse_foreign_parquet

    try:
        frame = parse_foreign_parquet(data)
    except DamagedParquetError as error:
        raise UsageError(f"{source} is damaged, or is not a Parquet file: {error}") from error
    return [
        Row(f"{source} row {number}", values)
        for number, values in enumerate(frame.iter_rows(named=True), start=1)
    ]


_READERS: dict[str, Callable[[bytes, str], list[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".txt": _text,
    ".parquet": _parquet,
}
