"""Judges by pattern: `regex:PATTERN` and `keywords:FILE`. They look at the response alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailbound.contract import Verdict
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange

_FOUND = Verdict(1.0)
_NOT_FOUND = Verdict(0.0)


@dataclass(frozen=True, slots=True)
class PatternJudge:
    """Scores 1 where `pattern` occurs in the response, else 0; never missing."""

    id: str
    pattern: re.Pattern[str]
    threshold: float = 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        search = self.pattern.search
        return [_FOUND if search(item.response) else _NOT_FOUND for item in exchanges]


def load_regex(name: str, *, threshold: float = 0.5) -> PatternJudge:
    """The judge of `regex:PATTERN`: a Python regular expression, found anywhere in the response.

    Case counts unless the pattern says `(?i)`. The id holds the hash of the pattern.

    >>> load_regex("(?i)sure, here is").judge([])
    []

    Raises `UsageError` where the pattern is empty or no regular expression.
    """
    if not name:
        raise UsageError("regex needs a pattern: write regex:PATTERN")
    try:
        pattern = re.compile(name)
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        raise UsageError(f"regex {name!r} is no regular expression: {error.msg}{where}") from error
    return PatternJudge(f"regex:{_hash(name)}", pattern, threshold)


def load_keywords(name: str, *, threshold: float = 0.5) -> PatternJudge:
    """The judge of `keywords:FILE`: one phrase per line, found as whole words in any case.

    Lines that are blank or begin with `#` are passed over; white space within a phrase matches
    any white space. The id holds the hash of the phrases.

    Raises `UsageError` where the file is missing, unreadable or has no phrase.
    """
    path = Path(name)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(
            f"keyword file {name!r} cannot be read: {error.strerror}; write keywords:FILE"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"keyword file {name!r} is not UTF-8 text (byte {error.start})") from error
    phrases = sorted(
        {" ".join(line.split()) for line in lines if not line.lstrip().startswith("#")}
    )
    phrases = [phrase for phrase in phrases if phrase]
    if not phrases:
        raise UsageError(f"keyword file {name!r} has no phrase: write one on each line")
    longest_first = sorted(phrases, key=len, reverse=True)
    choices = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first)
    pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)
    return PatternJudge(f"keywords:{_hash(chr(10).join(phrases))}", pattern, threshold)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
