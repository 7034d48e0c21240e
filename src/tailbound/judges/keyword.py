"""Judges by pattern: `regex:PATTERN` and `keywords:FILE`. They look at the response alone."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailbound.contract import Verdict
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange

_FOUND = Verdict(1.0)
_NOT_FOUND = Verdict(0.0)

_RUNS_TOGETHER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff"  # Thai, Lao, Burmese, Jamo, Khmer
    "\u3005-\u3007\u3040-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"  # kana, Han
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"  # Hangul, rarer forms
)
"""Letters of scripts without spaces between words, and of Korean, which joins particles to them."""


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of syntax that may change some day
            pattern = re.compile(name)
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        raise UsageError(f"regex {name!r} is no regular expression: {error.msg}{where}") from error
    except (OverflowError, RecursionError) as error:
        raise UsageError(f"regex {name[:60]!r} is more than Python can match: {error}") from error
    return PatternJudge(f"regex:{_hash(name)}", pattern, threshold)


def load_keywords(name: str, *, threshold: float = 0.5) -> PatternJudge:
    """The judge of `keywords:FILE`: one phrase per line, found as whole words in any case.

    Lines that are blank or begin with `#` are passed over; white space within a phrase matches
    any white space, and accents and apostrophes are found in either of their forms. Where an end
    of a phrase is in a script that runs words together (Chinese, Japanese, Korean, Thai, Lao,
    Khmer, Burmese) that end need not be a word's. The id holds the hash of the phrases.

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
    pattern = re.compile("|".join(map(_phrase, longest_first)), re.IGNORECASE)
    return PatternJudge(f"keywords:{_hash(chr(10).join(phrases))}", pattern, threshold)


def _phrase(phrase: str) -> str:
    """The regular expression of one phrase, as whole words where words have ends that show.

    Accents may be part of their letters or follow them; both apostrophes are one.
    """
    before = "" if _RUNS_TOGETHER.match(phrase[0]) else r"(?<!\w)"
    behind = "" if _RUNS_TOGETHER.match(phrase[-1]) else r"(?!\w)"
    forms = sorted({unicodedata.normalize(form, phrase) for form in ("NFC", "NFD")})
    choices = "|".join(r"\s+".join(map(re.escape, form.split())) for form in forms)
    choices = re.sub("['’]", "['’]", choices)
    return f"{before}(?:{choices}){behind}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
