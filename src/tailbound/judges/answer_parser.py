"""How the marks that a language model gives are read out of its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

# behind and around names and values: Markdown, quotation marks, white space within the line
_MARKS = r"(?:[\"'*`]|[^\S\n])*"
_REFUSAL = re.compile(
    r"\W*(?:i['’]?m (?:really |very )?sorry|sorry\b|i (?:can(?:no|['’])t|won['’]t|will not|must "
    r"decline|am (?:unable|not able)|['’]m (?:unable|not able))|i['’]m (?:unable|not able)|"
    r"as an ai\b)",
    re.IGNORECASE,
)
_LINE_BEGINS = re.compile(r"[\W\d_]*")
_JSON_KEY = re.compile(r"\s*\{.*[{,]\s*\"", re.DOTALL)


def is_refusal(answer: str) -> bool:
    """Whether the answer begins as a refusal does: "I'm sorry", "I cannot", "As an AI"."""
    return _REFUSAL.match(answer) is not None


@dataclass(frozen=True, slots=True)
class Field:
    """One number of an answer: `name: value`, `low` <= value <= `high`.

    `words` are other ways of writing values, for instance {"yes": 1, "no": 0}, in lower case.
    """

    name: str
    low: float
    high: float
    whole: bool
    words: tuple[tuple[str, float], ...]

    def read(self, answer: str) -> float | None:
        """The value that the answer gives the field; None where it gives none or several.

        The last line counts that begins with the name, or with a brace and has it as a key. What
        is written behind it, there or below, may be a quotation of what was judged, so it must say
        the same; where no line states the field, all places must. A value out of range, or with
        more behind it ("3 or 4", "2-3", "1,5"), is none.
        """
        name = re.escape(self.name).replace("_", "[_ ]")
        places = list(re.finditer(rf"(?<!\w){name}{_MARKS}[:=：]{_MARKS}", answer, re.IGNORECASE))
        stated = [place.start() for place in places if _states(answer, place.start())]
        line = answer.rfind("\n", 0, stated[-1]) + 1 if stated else 0
        first = next((start for start in stated if start >= line), 0)
        value = self._value_pattern()
        found = {
            self._value(value.match(answer, place.end()))
            for place in places
            if place.start() >= first
        }
        return found.pop() if len(found) == 1 else None

    def _value_pattern(self) -> re.Pattern[str]:
        words = sorted((re.escape(word) for word, _ in self.words), key=len, reverse=True)
        value = "|".join([r"-?\d+(?:\.\d+)?", *(rf"{word}(?!\w)" for word in words)])
        # the rest of the line may close a quotation, a list or a remark, or say "/5"
        scale = rf"(?:/\s*{re.escape(f'{self.high:g}')}{_MARKS})?"
        return re.compile(
            rf"({value}){_MARKS}{scale}(?=[;)}}\](。]|[,.](?!\d)|$)", re.IGNORECASE | re.MULTILINE
        )

    def _value(self, found: re.Match[str] | None) -> float | None:
        if found is None:
            return None
        words = dict(self.words)
        if (word := found[1].lower()) in words:
            return words[word]
        value = float(word)
        fits = self.low <= value <= self.high and not (self.whole and value % 1)
        return value if fits else None


def _states(answer: str, start: int) -> bool:
    """Whether what stands at `start` begins its line, list signs aside, or is a key of its JSON."""
    before = answer[answer.rfind("\n", 0, start) + 1 : start]
    return bool(_LINE_BEGINS.fullmatch(before) or _JSON_KEY.fullmatch(before))
