"""Outcomes from outside: counts of draws, line by line, each checked before it is used."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tailbound.core.outside import clean_text, count, shown
from tailbound.errors import UsageError
from tailbound.prompts.opening import STANDARD_INPUT, decode, suffix_of
from tailbound.prompts.tables import Row, parse_line, read_rows

LONGEST_NAME = 200
LONGEST_LINE = 2**20
_CHUNK, _MOST_CHUNKS = 2**16, 2**8
_SHARE, _LONGEST_PAUSE = 0.2, 10.0
"""Share of the time in which a stream is counted and written down; seconds of gathering at most."""
_DIGITS = 15
_TABLES = (".csv", ".tsv")


class Outcome(NamedTuple):
    """Counts of the draws of one prompt, or of one group, and where they stand.

    `missing` of the draws have no verdict; `lower_bound` is L of the prompt, as
    `tailbound predict` prints it.
    """

    place: str
    prompt: str | None
    group: str | None
    draws: int
    unsafe: int
    missing: int
    lower_bound: int | None

    def key(self) -> bytes:
        """What tells it apart from another one, without its place."""
        return json.dumps(self[1:]).encode()


def read_outcomes(path: Path) -> list[Outcome]:
    """All outcomes of a file (JSONL, JSON, CSV, TSV, Parquet); nothing counts if one is wrong.

    Raises `UsageError` with the line of the first that is wrong.
    """
    if not path.exists():
        raise UsageError(f"no file of outcomes {path}: check the path")
    typed = suffix_of(path) in _TABLES
    return [outcome_of(row, as_text=typed) for row in read_rows(path, what="file of outcomes")]


def given_outcomes(records: Iterable[Any]) -> list[Outcome]:
    """Outcomes that Python gives as mappings."""
    found = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping):
            raise UsageError(f"outcome {number} is {shown(record)}, not a mapping of counts")
        found.append(outcome_of(Row(f"outcome {number}", dict(record))))
    return found


def streamed_outcomes() -> Iterator[list[Outcome]]:
    """Outcomes of standard input (JSONL), as many at a time as have arrived.

    Whoever takes them writes down where that leaves everything: the longer that took, the longer
    the next ones are gathered before they are given, so that it takes `_SHARE` of the time at most.
    Those before a wrong line, or an interrupt, are given before the error is raised.
    """
    number, rest, pause = 0, b"", 0.0
    while True:
        data, stop = _gathered(sys.stdin.buffer, pause)
        *lines, rest = (rest + data).split(b"\n")
        if isinstance(stop, EOFError):
            lines, rest = [*lines, rest], b""
        found: list[Outcome] = []
        wrong: UsageError | None = None
        for line in lines:
            number += 1
            place = f"standard input line {number}"
            try:
                text = decode(line, place)
                if text.strip():
                    found.append(outcome_of(parse_line(text, place)))
            except UsageError as error:
                wrong = error
                break
        if found:
            given = time.monotonic()
            yield found
            pause = min((time.monotonic() - given) * (1 / _SHARE - 1), _LONGEST_PAUSE)
        if wrong is not None:
            raise wrong
        if len(rest) > LONGEST_LINE:
            raise UsageError(
                f"standard input line {number + 1} is longer than a MB: give one outcome a line"
            )
        if isinstance(stop, EOFError):
            return
        if stop is not None:
            raise stop


def _gathered(source: Any, seconds: float) -> tuple[bytes, BaseException | None]:
    """What is there, or the first that comes, and what follows within so many seconds of the call.

    Second: `EOFError` at the end of the stream, `KeyboardInterrupt` where it came after some data.
    """
    until = time.monotonic() + seconds
    parts = [source.read1(_CHUNK)]  # gives what is there, and waits only for something
    try:
        while parts[-1] and len(parts) < _MOST_CHUNKS and _comes(source, until - time.monotonic()):
            parts.append(source.read1(_CHUNK))
    except KeyboardInterrupt as interrupt:
        return b"".join(parts), interrupt
    return b"".join(parts), None if parts[-1] else EOFError()


def _comes(source: Any, seconds: float) -> bool:
    """Whether more comes within so many seconds; False where that cannot be known."""
    try:
        return seconds > 0 and bool(select.select([source], [], [], seconds)[0])
    except (OSError, ValueError, TypeError):  # no file, or one that cannot be waited for
        return False


def outcome_of(row: Row, *, as_text: bool = False) -> Outcome:
    """The outcome in a record; `as_text`: its numbers are written as text, as in CSV."""
    values = {name: value for name, value in row.values.items() if value not in (None, "")}
    draws, unsafe = (_count(row.place, values, name, as_text) for name in ("draws", "unsafe"))
    missing = _count(row.place, values, "missing", as_text) if "missing" in values else 0
    if unsafe + missing > draws:
        gone = f" + {missing:,} missing" if missing else ""
        raise UsageError(
            f"{row.place}: {unsafe:,} unsafe{gone} exceed {draws:,} draws: check the counts"
        )
    length = None
    if "lower_bound" in values:
        length = _count(row.place, values, "lower_bound", as_text)
        if length < 1:
            raise UsageError(f"{row.place}: lower_bound is at least 1, not {length}")
    prompt = _name(row.place, values, "prompt_id" if "prompt_id" in values else "prompt")
    group = _name(row.place, values, "group")
    return Outcome(row.place, prompt, group, draws, unsafe, missing, length)


def is_standard_input(outcomes: object) -> bool:
    """Whether outcomes are to be read from standard input."""
    return isinstance(outcomes, (str, Path)) and Path(outcomes) == STANDARD_INPUT


def _count(place: str, values: Mapping[str, Any], name: str, as_text: bool) -> int:
    if name not in values:
        raise UsageError(f"{place} has no {name!r}: give draws and unsafe, as whole numbers")
    value = values[name]
    if as_text and isinstance(value, str):
        text = value.strip()
        value = int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else value
    found = count(value)
    if found is None:
        raise UsageError(
            f"{place}: {name} must be a whole number from 0 to 2147483647, not "
            f"{shown(values[name])}"
        )
    return found


def _name(place: str, values: Mapping[str, Any], field: str) -> str | None:
    value = values.get(field)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**_DIGITS:
        value = str(value)
    if not isinstance(value, str):
        raise UsageError(f"{place}: {field} must be a text, not {shown(value)}")
    if len(value) > LONGEST_NAME:
        raise UsageError(
            f"{place}: {field} has {len(value):,} characters, and names have {LONGEST_NAME} at "
            "most: give the id of the prompt as prompt_id"
        )
    return clean_text(value)
