"""Judges by pattern: `regex:PATTERN` and `keywords:FILE`. They look at the response alone."""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

from tailbound.core.contract import Verdict
from tailbound.core.outside import is_clean, shown
from tailbound.errors import UsageError
from tailbound.judges.base import Exchange
from tailbound.judges.limited_regex import LIMIT, LimitedSearch
from tailbound.judges.linear_regex import NotLinearError, Search, linear_search
from tailbound.judges.verdicts import failed

LONGEST_PATTERN = 20_000
"""Characters of a regular expression."""
LONGEST_PHRASE = 1_000
"""Characters of a keyword phrase."""

_FOUND = Verdict(1.0)
_NOT_FOUND = Verdict(0.0)

_RUNS_TOGETHER = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff"  # Thai, Lao, Burmese, Jamo, Khmer
    "\u3005-\u3007\u3040-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"  # kana, Han
    "\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"  # Hangul, rarer forms
)
"""Letters of scripts without spaces between words, and of Korean, which joins particles to them."""


class PatternJudge:
    """Scores 1 where `pattern` occurs in the response, else 0.

    RE2 looks for it in time that grows with the response alone. A pattern or a response that RE2
    cannot read as Python does goes to Python's own engine, in a process of its own and for at most
    `limit` seconds of computing: past them the verdict is missing. `id` begins with `name` and ends
    with the engines.
    """

    def __init__(
        self, name: str, pattern: str, *, threshold: float = 0.5, limit: float = LIMIT
    ) -> None:
        self._limited = LimitedSearch(pattern, limit=limit)
        try:
            self._linear: Search | None = linear_search(pattern)
        except NotLinearError:
            self._linear = None
        self._late = _failed_after(limit)
        self._seen = self._missed = 0
        self._lock = threading.Lock()
        self.threshold = threshold
        engine = "python" if self._linear is None else "re2"
        self.id = f"{name}?engine={engine}"
        self.deterministic = True
        self.graded = False

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know after judging: how many responses took too long."""
        if not self._missed:
            return ()
        return (
            f"{self.id}: the search took too long on {self._missed:,} of {self._seen:,} responses, "
            "whose verdicts are missing: a pattern without repetitions inside repetitions, "
            "backreferences and lookarounds takes no longer than the response is long",
        )

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        texts = [exchange.response for exchange in exchanges]
        found = [None if self._linear is None else self._linear(text) for text in texts]
        left = [at for at, answer in enumerate(found) if answer is None]
        if left:
            for at, answer in zip(left, self._limited([texts[at] for at in left]), strict=True):
                found[at] = answer
        with self._lock:
            self._seen += len(found)
            self._missed += sum(answer is None for answer in found)
        return [
            self._late if answer is None else _FOUND if answer else _NOT_FOUND for answer in found
        ]


def _failed_after(limit: float) -> Verdict:
    return failed(TimeoutError(f"the search took more than {limit:g} s of computing"))


def load_regex(name: str, *, threshold: float = 0.5) -> PatternJudge:
    """The judge of `regex:PATTERN`: a Python regular expression, found anywhere in the response.

    Case counts unless the pattern says `(?i)`. The id holds the hash of the pattern.

    >>> load_regex("(?i)sure, here is").judge([])
    []

    Raises `UsageError` where the pattern is empty or no regular expression.
    """
    if not name:
        raise UsageError("regex needs a pattern: write regex:PATTERN")
    if len(name) > LONGEST_PATTERN:
        raise UsageError(
            f"regex: a pattern has at most {LONGEST_PATTERN:,} characters, not {len(name):,}: for "
            "lists of words use keywords:FILE"
        )
    if not is_clean(name):
        raise UsageError(f"regex {shown(name)} has half a character: write it in UTF-8")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of syntax that may change some day
            re.compile(name)
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        raise UsageError(
            f"regex {name!r} is not a valid regular expression: {error.msg}{where}"
        ) from error
    except (OverflowError, RecursionError, ValueError) as error:  # numbers of 5,000 digits
        raise UsageError(f"regex {name[:60]!r} is more than Python can match: {error}") from error
    return PatternJudge(f"regex:{_hash(name)}", name, threshold=threshold)


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
    longest = max(map(len, phrases))
    if longest > LONGEST_PHRASE:
        raise UsageError(
            f"keyword file {name!r} has a line of {longest:,} characters, and phrases have "
            f"{LONGEST_PHRASE:,} at most: is it a list of phrases?"
        )
    # phrases whose ends are alike share what is looked at beside them: so it is written once
    groups: dict[tuple[str, str], list[str]] = {}
    for phrase in sorted(phrases, key=len, reverse=True):
        groups.setdefault(_ends(phrase), []).append(_phrase(phrase))
    pattern = "|".join(
        f"{before}(?:{'|'.join(choices)}){behind}" for (before, behind), choices in groups.items()
    )
    name = f"keywords:{_hash(chr(10).join(phrases))}"
    return PatternJudge(name, f"(?i){pattern}", threshold=threshold)


def _ends(phrase: str) -> tuple[str, str]:
    """What stands before and behind a phrase: no letter where words have ends that show."""
    return (
        "" if _RUNS_TOGETHER.match(phrase[0]) else r"(?<!\w)",
        "" if _RUNS_TOGETHER.match(phrase[-1]) else r"(?!\w)",
    )


def _phrase(phrase: str) -> str:
    """The regular expression of one phrase.

    Accents may be part of their letters or follow them; both apostrophes are one.
    """
    forms = sorted({unicodedata.normalize(form, phrase) for form in ("NFC", "NFD")})
    choices = "|".join(r"\s+".join(map(re.escape, form.split())) for form in forms)
    return re.sub("['’]", "['’]", choices)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
