"""The words that the demo model knows, their token ids, and the chat as tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tailbound.demo import replies, world

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eot>", "<sys>", "<user>", "<bot>")

CHAT_TEMPLATE = (
    "{{ '<bos>' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<sys> ' + message['content'] + ' <eot>' }}"
    "{% elif message['role'] == 'user' %}{{ '<user> ' + message['content'] + ' <eot>' }}"
    "{% else %}{{ '<bot> ' + message['content'] + ' <eot>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bot>' }}{% endif %}"
)


def _phrases() -> Iterator[str]:
    yield from SPECIAL
    yield from ("the of . , ?",)
    for part in (world.FRAMES, world.FORBIDDEN_VERBS, world.HARMLESS_VERBS, world.OBJECTS):
        yield from part
    for part in (world.OWNERS, world.SUFFIXES, *world.PERSONAS.values()):
        yield from part
    for part in (replies.TOOLS, replies.MOTIONS, replies.MANNERS):
        yield from part
    grammar = replies.Grammar(world.Request(True, 0, 0, 0, 0, 0))
    for state in ("open", "refusal", "refused", "style", "tool", "motion", "manner", "close"):
        yield from (branch.words for branch in grammar.branches(state, ""))


WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(word for phrase in _phrases() for word in phrase.split())
)
IDS: dict[str, int] = {word: index for index, word in enumerate(WORDS)}

PAD, UNKNOWN, BEGIN, END = (IDS[word] for word in SPECIAL[:4])
REPLY = IDS["<bot>"]
"""The token after which the model speaks: the last token of every prompt."""


def encode(messages: Sequence[tuple[str, str]]) -> list[int]:
    """Token ids of a chat up to where the reply begins; what the chat template must give."""
    marks = {"system": "<sys>", "user": "<user>", "assistant": "<bot>"}
    ids = [BEGIN]
    for role, content in messages:
        ids.append(IDS[marks[role]])
        ids.extend(IDS.get(word, UNKNOWN) for word in content.lower().split())
        ids.append(END)
    return [*ids, REPLY]
