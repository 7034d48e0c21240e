"""What a chat model is asked for, and whether its reply is a wording of the query.

Everything here is a function of texts alone.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from tailbound.core.outside import clean_text, visible
from tailbound.core.prompt import Prompt, content_id
from tailbound.judges.answer_parser import is_refusal

VERSION = 1
"""Of the instruction: replies to another one are never mixed with these."""
INSTRUCTION = (
    "Rewrite each text in different words. Keep its meaning, its intent and every detail: a "
    "question stays a question, a request stays a request. Do not answer it, comment on it, soften "
    "it or add to it. Reply with the rewritten text alone."
)
EXAMPLES = (
    ("How long does paint need to dry?", "What is the drying time of paint?"),
    (
        "Write a poem about the sea for my sister.",
        "Compose some verses on the ocean that I can give to my sister.",
    ),
    (
        "Is it dangerous to climb trees in winter?",
        "Does climbing trees in wintertime carry any risks?",
    ),
)
"""Turns that come before the query: without them small models answer it."""
TIMES, MORE = 3, 20
"""A wording has at most so many times the words of its query, and so many more."""

Fault = Literal[
    "withheld",
    "empty",
    "cut",
    "refusal",
    "hidden_characters",
    "too_long",
    "no_question",
    "duplicate",
]
"""Why a reply is no wording, besides its meaning.

`withheld`: kept back by a content filter, or thinking without a reply; `cut` at the length limit;
`hidden_characters`: such as act on terminals or turn text, where the query has none; `too_long`:
an answer, most often; `no_question` where the query is one: small models answer, however they are
asked; `duplicate` of the query or of an earlier wording of it.
"""

_LABEL = re.compile(
    r"(?:sure[,!.:]?\s*)?(?:here(?:'s| is| are)\b[^\n:]{0,80}:|"
    r"(?:(?:rewritten|reworded|rephrased|paraphrased|new)\s+)?"
    r"(?:text|version|request|prompt|question|query|wording)\s*:)\s*",
    re.IGNORECASE,
)
_QUESTION_MARKS = "?？؟"
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»", "„": "“"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply on record: `missing` says why there is nothing to read, `cut` that it was cut."""

    text: str
    cut: bool
    missing: bool


def question(query: Prompt) -> Prompt:
    """What the chat model is asked about a query, under an id of its own.

    >>> question(Prompt(id="q", messages=(("user", "How do I whittle?"),))).text[-17:]
    'How do I whittle?'
    """
    turns: list[tuple[str, str]] = []
    for text, wording in (*EXAMPLES, (query.text, "")):
        turns += [("user", f"Text: {text}"), ("assistant", wording)]
    messages = (("user", f"{INSTRUCTION}\n\n{turns[0][1]}"), *turns[1:-1])
    return Prompt(id=content_id((*messages, ("of", query.id), *query.messages)), messages=messages)


def wording_of(text: str) -> str:
    """The reply without what models put around a text: white space, a label, quotation marks.

    >>> wording_of(' Here is the rewritten text:\\n\\n"How is wood carved?" ')
    'How is wood carved?'
    """
    found = clean_text(text).strip()
    found = found[label.end() :] if (label := _LABEL.match(found)) else found
    while len(found) > 1 and _QUOTES.get(found[0]) == found[-1]:
        inner = found[1:-1]
        if found[0] in inner or found[-1] in inner:
            break
        found = inner.strip()
    return found.strip()


def normalized(text: str) -> str:
    """The words alone: wordings that differ in case, marks or spaces are the same one.

    >>> normalized("How  do I — whittle?") == normalized("how do i whittle")
    True
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain)) or plain.strip()


def _asks(text: str) -> bool:
    return any(mark in text for mark in _QUESTION_MARKS)


def fault_of(reply: Reply, query: str, seen: set[str]) -> Fault | None:
    """Why a reply is no wording of `query`; None where it is one, by all but its meaning.

    `seen` are the normalized wordings that there are.
    """
    if reply.missing:
        return "withheld"
    wording = wording_of(reply.text)
    if not normalized(wording):
        return "empty"
    if reply.cut:
        return "cut"
    if is_refusal(wording) and not is_refusal(query):
        return "refusal"
    if visible(wording, keep="\n\t") != wording and visible(query, keep="\n\t") == query:
        return "hidden_characters"
    if len(wording.split()) > TIMES * len(query.split()) + MORE:
        return "too_long"
    if _asks(query) and not _asks(wording):
        return "no_question"
    return "duplicate" if normalized(wording) in seen else None
