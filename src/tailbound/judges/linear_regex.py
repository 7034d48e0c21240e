"""Python's regular expressions for RE2, whose time grows with the length of a text alone.

RE2 and Python read many a pattern differently: `\\w` and `\\b` are ASCII there, `(?i)` folds fewer
letters, `$` and `{,3}` mean something else. So Python's own parser reads the pattern, every class
and letter is written out as the characters that Python's engine finds for it, and what RE2 has no
equal for (backreferences, most lookarounds) is refused. The question is only *whether* a pattern
occurs, on which the order of alternatives and lazy or greedy repetition have no bearing.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

_parser: Any = importlib.import_module("re._parser")

MEMORY = 256 << 20
"""Bytes that RE2 may take for one pattern."""

_SURROGATES = range(0xD800, 0xE000)
_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S", "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip
_ONE_CHARACTER = ("LITERAL", "NOT_LITERAL", "IN", "ANY")
_BEYOND_ASCII = re.compile(r"[^\W\x00-\x7f]")
_LAST_CASED = 0x1F000

Ranges = tuple[tuple[int, int], ...]
Search = Callable[[str], bool | None]


class NotLinearError(Exception):
    """RE2 has no equal for the pattern."""


def linear_search(pattern: str) -> Search:
    """A function that says whether `pattern` occurs in a text, None where RE2 cannot tell.

    That is so for texts with half surrogates, and for those with letters beyond ASCII where the
    pattern has a `\\b`. Raises `NotLinearError` for a pattern that RE2 has no equal for, and where
    RE2 is not installed.
    """
    writer = _Writer()
    try:
        import re2

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            tree = _parser.parse(pattern)
        written = writer.sequence(tree, tree.state.flags, head=True, tail=True)
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = MEMORY
        found = re2.compile(written, options).search
    except (ImportError, RecursionError) as error:
        raise NotLinearError(str(error)) from error
    except re2.error as error:  # too large, or nested too deeply
        raise NotLinearError(str(error)) from error

    def search(text: str) -> bool | None:
        if writer.ascii_words and not text.isascii() and _BEYOND_ASCII.search(text):
            return None
        try:
            return found(text.encode()) is not None
        except UnicodeEncodeError:
            return None

    return search


class _Writer:
    """Writes a parsed pattern for RE2.

    `head` and `tail` say that nothing of the pattern comes before or after: there a lookaround may
    as well consume what it looks at. `ascii_words` says afterwards whether a `\\b` was written,
    which RE2 places by ASCII letters.
    """

    def __init__(self) -> None:
        self.ascii_words = False

    def sequence(self, items: Any, flags: int, *, head: bool, tail: bool) -> bytes:
        last = len(items) - 1
        return b"".join(
            self._item(str(op), value, flags, head=head and at == 0, tail=tail and at == last)
            for at, (op, value) in enumerate(items)
        )

    def _item(self, op: str, value: Any, flags: int, *, head: bool, tail: bool) -> bytes:
        if op in _ONE_CHARACTER:
            return _class(_characters(op, _frozen(value), _relevant(flags)))
        if op == "AT":
            return self._position(str(value), flags, tail=tail)
        if op == "BRANCH":
            choices = [self.sequence(part, flags, head=head, tail=tail) for part in value[1]]
            return b"(?:" + b"|".join(choices) + b")"
        if op == "SUBPATTERN":
            _, added, removed, inner = value
            if added & (re.ASCII | re.UNICODE):
                flags &= ~(re.ASCII | re.UNICODE)
            flags = (flags | added) & ~removed
            return b"(?:" + self.sequence(inner, flags, head=head, tail=tail) + b")"
        if op in ("MAX_REPEAT", "MIN_REPEAT"):
            return self._repeat(value, flags, head=head, tail=tail)
        if op in ("ASSERT", "ASSERT_NOT"):
            return self._look(op, value, flags, head=head, tail=tail)
        raise NotLinearError(op)

    def _position(self, name: str, flags: int, *, tail: bool) -> bytes:
        lines = bool(flags & re.MULTILINE)
        if name == "AT_BEGINNING":
            return b"(?m:^)" if lines else rb"\A"
        if name == "AT_BEGINNING_STRING":
            return rb"\A"
        if name == "AT_END_STRING":
            return rb"\z"
        if name == "AT_END" and lines:
            return b"(?m:$)"
        if name == "AT_END" and tail:
            return rb"(?:\n?\z)"  # Python's $ also stands before a newline that ends the text
        if name == "AT_BOUNDARY":
            self.ascii_words = self.ascii_words or not flags & re.ASCII
            return rb"\b"
        raise NotLinearError(name)

    def _repeat(self, value: Any, flags: int, *, head: bool, tail: bool) -> bytes:
        least, most, inner = value
        once = most == 1
        if not once and inner.getwidth()[0] == 0:
            raise NotLinearError("a repetition of what may be empty")
        body = self.sequence(inner, flags, head=head and once, tail=tail and once)
        times = f"{{{least},{'' if most == _parser.MAXREPEAT else int(most)}}}"
        return b"(?:(?:" + body + b")" + times.encode() + b")"

    def _look(self, op: str, value: Any, flags: int, *, head: bool, tail: bool) -> bytes:
        direction, inner = value
        if not (head if direction < 0 else tail):
            raise NotLinearError("a lookaround inside the pattern")
        if op == "ASSERT":
            return b"(?:" + self.sequence(inner, flags, head=head, tail=tail) + b")"
        if len(inner) != 1 or str(inner[0][0]) not in _ONE_CHARACTER:
            raise NotLinearError("a negative lookaround at more than one character")
        name, what = inner[0]
        other = _class(_others(_characters(str(name), _frozen(what), _relevant(flags))))
        return rb"(?:\A|" + other + b")" if direction < 0 else b"(?:" + other + rb"|\z)"


def _relevant(flags: int) -> int:
    return int(flags) & int(re.IGNORECASE | re.ASCII | re.DOTALL)


def _frozen(value: Any) -> Any:
    """`value` of a one-character item as something that can be a key, names as text."""
    if not isinstance(value, list):
        return value
    return tuple((str(op), str(v) if str(op) == "CATEGORY" else v) for op, v in value)


@lru_cache(maxsize=4096)
def _characters(op: str, value: Any, flags: int) -> Ranges:
    """The code points that Python's engine finds for a one-character item, as closed ranges."""
    if op == "ANY":
        return ((0, 0x10FFFF),) if flags & re.DOTALL else ((0, 9), (11, 0x10FFFF))
    if op in ("LITERAL", "NOT_LITERAL") and value in _SURROGATES:
        raise NotLinearError("half a surrogate")
    if op == "LITERAL":
        if not flags & re.IGNORECASE:
            return ((value, value),)
        one = re.compile(re.escape(chr(value)), _matching(flags))
        same = {value, *map(ord, one.findall(_cased()))}
        return tuple((code, code) for code in sorted(same))
    source = f"^{_escaped(value)}" if op == "NOT_LITERAL" else "".join(map(_element, value))
    return _runs(re.compile(f"[{source}]+", _matching(flags)))


def _matching(flags: int) -> int:
    return flags & int(re.IGNORECASE | re.ASCII)


def _element(element: tuple[str, Any]) -> str:
    name, value = element
    if name == "NEGATE":
        return "^"
    if name == "LITERAL":
        return _escaped(value)
    if name == "RANGE":
        return f"{_escaped(value[0])}-{_escaped(value[1])}"
    if name == "CATEGORY" and value in _CATEGORIES:
        return _CATEGORIES[value]
    raise NotLinearError(name)


def _escaped(code: int) -> str:
    return f"\\U{code:08x}"


def _runs(some: re.Pattern[str]) -> Ranges:
    """The code points of which a run of `some` consists, among all but the surrogates."""
    ends = [found.span() for found in some.finditer(_every_character())]
    return tuple((_code(first), _code(behind - 1)) for first, behind in ends)


def _code(position: int) -> int:
    return position if position < _SURROGATES.start else position + len(_SURROGATES)


def _others(ranges: Ranges) -> Ranges:
    found, start = [], 0
    for first, last in ranges:
        if first > start:
            found.append((start, first - 1))
        start = last + 1
    if start <= 0x10FFFF:
        found.append((start, 0x10FFFF))
    return tuple(found)


def _class(ranges: Ranges) -> bytes:
    if not ranges:
        return rb"[^\x{0}-\x{10ffff}]"
    body = "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges)
    return f"[{body}]".encode()


@cache
def _every_character() -> str:
    import numpy as np

    codes: Sequence[range] = (range(_SURROGATES.start), range(_SURROGATES.stop, 0x110000))
    return np.concatenate([np.array(part, "<u4") for part in codes]).tobytes().decode("utf-32-le")


@cache
def _cased() -> str:
    """All characters that have another case; those beyond `_LAST_CASED` have none."""
    every = _every_character()[:_LAST_CASED]
    return "".join(c for c in every if c.lower() != c or c.upper() != c or c.casefold() != c)
