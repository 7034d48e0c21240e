"""The one door for text and numbers that others made: servers, judges, plugins, models, files.

What comes in here may be anything: bytes that are no text, halves of characters, nesting without
end, numbers of a thousand digits. What goes out can be stored, compared and put into a message.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tailbound.visible import visible as visible

#: More than any answer, row or line of a log needs; deeper documents cannot be walked safely.
DEEPEST = 100
#: Half a character, or bytes that are not text, are replaced by this.
REPLACEMENT = "\ufffd"
_CREDENTIALS = re.compile(r"(://)[^/\s]*@")
_QUERY = re.compile(r"(://[^\s?]*)\?[^\s]+")
_INT32 = 2**31 - 1


class OutsideError(ValueError):
    """What came from outside is not a JSON document; the message says why in a few words."""


def parse_json(source: bytes | str, *, most: int | None = None, deepest: int = DEEPEST) -> Any:
    """The JSON document in `source`; bytes that are not UTF-8 become U+FFFD.

    Raises `OutsideError` where it is longer than `most`, nested more than `deepest` levels, holds
    a number that is too long, or is not JSON. Strings may still hold halves of characters, and
    numbers may be NaN or large: see `clean_text`, `finite` and `count`.

    >>> parse_json(b'{"a": [1]}')
    {'a': [1]}
    >>> parse_json("[" * 200 + "]" * 200)
    Traceback (most recent call last):
    ...
    tailbound.core.outside.OutsideError: nested too deeply, over 100 levels
    """
    if most is not None and len(source) > most:
        raise OutsideError(f"longer than {most:,} bytes")
    if isinstance(source, bytes):
        source = source.decode(json.detect_encoding(source), "replace")
    try:
        document = json.loads(source.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        raise OutsideError(f"{error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise OutsideError(f"nested too deeply, over {deepest} levels") from None
    except ValueError:
        raise OutsideError("a number is too long") from None
    if source.count("[") + source.count("{") > deepest and _deeper(document, deepest):
        raise OutsideError(f"nested too deeply, over {deepest} levels")
    return document


def parse_yaml(source: str, *, most: int = 4_000_000, deepest: int = DEEPEST) -> Any:
    """The YAML document in `source`: plain values alone, no objects of Python.

    Raises `OutsideError` where it is longer than `most` characters, is not YAML, is nested more
    than `deepest` levels, or repeats parts of itself by aliases until it is huge or endless.

    >>> parse_yaml("a: [1, true]")
    {'a': [1, True]}
    >>> parse_yaml("&a [*a]")
    Traceback (most recent call last):
    ...
    tailbound.core.outside.OutsideError: nested too deeply, over 100 levels
    """
    import yaml

    if len(source) > most:
        raise OutsideError(f"longer than {most:,} characters")
    try:
        document = yaml.safe_load(source)
        size = _expanded(document, deepest, {})
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise OutsideError(f"{error.problem or 'it cannot be read'}{place}") from None
    except RecursionError:
        raise OutsideError(f"nested too deeply, over {deepest} levels") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise OutsideError(one_line(error, 200) or type(error).__name__) from None
    if size > most:
        raise OutsideError("its aliases repeat it to more than can be read")
    return document


def clean_text(text: str) -> str:
    """`text` with U+FFFD for each half of a character (lone surrogate), so that UTF-8 can hold it.

    Two halves that belong together become their character. All other characters stay, NUL and
    control characters among them: they can be stored, and a response is kept as it was given.

    >>> clean_text("a\\ud83d b\\ud83d\\ude00")
    'a\ufffd b😀'
    """
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_clean(text: object) -> bool:
    """Whether `text` is text that UTF-8 can hold."""
    return isinstance(text, str) and (text.isascii() or clean_text(text) == text)


def finite(value: object) -> float | None:
    """A plain number as a finite float; None for everything else (NaN, "1", true, 10**400)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def count(value: object, *, most: int = _INT32) -> int | None:
    """A whole number between 0 and `most`, also where it is written 3.0; None for all else."""
    number = finite(value)
    if number is None or not 0 <= number <= most or number % 1:
        return None
    return int(number)


def shown(value: object, longest: int = 60) -> str:
    """`value` as code would write it, on one short line; never fails."""
    try:
        line = " ".join(repr(value).split())
    except Exception:  # a __repr__ may raise whatever its author wrote; one of 5,000 digits does
        line = f"<{type(value).__name__}>"
    return clean_text(line if len(line) <= longest else f"{line[: longest - 3]}...")


def one_line(value: object, longest: int) -> str:
    """`value` as one line of clean text of at most `longest` characters; never fails."""
    try:
        text = str(value)
    except Exception:  # a __str__ may raise whatever its author wrote
        text = f"<{type(value).__name__}>"
    line = clean_text(" ".join(text.split()))
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def without_passwords(text: str) -> str:
    """`text` with user names, passwords and queries of the URLs in it left out.

    >>> without_passwords("at https://me:secret@host/v1?key=5 now")
    'at https://[password]@host/v1?[query] now'
    """
    return _QUERY.sub(r"\1?[query]", _CREDENTIALS.sub(r"\1[password]@", text))


def _expanded(document: Any, deepest: int, known: dict[int, int]) -> int:
    """The values in `document`, those that aliases repeat counted each time.

    Raises `RecursionError` where it is nested more than `deepest` levels.
    """
    if not isinstance(document, (list, dict)):
        return 1
    if deepest == 0:
        raise RecursionError
    if id(document) not in known:
        parts = document.values() if isinstance(document, dict) else document
        known[id(document)] = 1 + sum(_expanded(part, deepest - 1, known) for part in parts)
    return known[id(document)]


def _deeper(document: Any, deepest: int) -> bool:
    """Whether `document` is nested more than `deepest` levels."""
    level = [document]
    for _ in range(deepest):
        level = [
            child
            for parent in level
            if isinstance(parent, (list, dict))
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (list, dict))
        ]
        if not level:
            return False
    return True
