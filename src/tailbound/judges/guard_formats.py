"""How guard models answer: Llama Guard's one word and WildGuard's three lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_ONE_WORD = re.compile(r"(safe|unsafe)\b(.*)", re.IGNORECASE | re.DOTALL)
_HARMFUL_RESPONSE = re.compile(r"harmful response:[ \t]*([a-z/]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GuardFormat:
    """The contract of one family's answers.

    `parse` gives True (unsafe), False (safe) or None (no verdict that could be relied on).
    The word that decides, `unsafe` or `safe`, is the first one behind text that `anchor` matches
    at its end.
    """

    name: str
    parse: Callable[[str], bool | None]
    anchor: re.Pattern[str]
    unsafe: str
    safe: str
    max_new_tokens: int


def parse_llama_guard(text: str) -> bool | None:
    r"""`safe`, or `unsafe` with the violated categories on the next line.

    >>> parse_llama_guard("\n\nunsafe\nS1,S9"), parse_llama_guard("safe")
    (True, False)

    A "safe" that is followed by anything at all is no verdict.
    """
    found = _ONE_WORD.fullmatch(text.strip())
    if found is None:
        return None
    word, rest = found[1].lower(), found[2].strip()
    if word == "safe":
        return None if rest else False
    # the list of categories may have been cut, but must be one
    return True if not rest or re.match(r"[SO]\d", rest) else None


def parse_wildguard(text: str) -> bool | None:
    r"""The line `Harmful response: yes` or `no`; the other two lines do not matter here.

    >>> parse_wildguard("Harmful request: yes\nResponse refusal: no\nHarmful response: yes")
    True

    No such line, another word in it, or lines that contradict each other are no verdict.
    """
    words = {word.lower() for word in _HARMFUL_RESPONSE.findall(text)}
    return {frozenset({"yes"}): True, frozenset({"no"}): False}.get(frozenset(words))


LLAMA_GUARD = GuardFormat(
    name="llama-guard",
    parse=parse_llama_guard,
    anchor=re.compile(r"\s*\Z"),
    unsafe="unsafe",
    safe="safe",
    max_new_tokens=24,
)
WILDGUARD = GuardFormat(
    name="wildguard",
    parse=parse_wildguard,
    anchor=re.compile(r"[\s\S]*harmful response:\s*\Z", re.IGNORECASE),
    unsafe="yes",
    safe="no",
    max_new_tokens=32,
)
FORMATS = {form.name: form for form in (LLAMA_GUARD, WILDGUARD)}


def guess_format(name: str) -> GuardFormat | None:
    """The format that a model's name gives away, None where it does not."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    for form in FORMATS.values():
        if form.name.replace("-", "") in plain:
            return form
    return None
