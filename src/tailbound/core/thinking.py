"""What a reasoning model thinks before it replies, and what then counts as its response.

A thought stands at the beginning of a response, between tags (`<think>` ... `</think>`), or in a
field of its own where a server keeps the two apart. Some chat templates open the tag themselves:
then the response begins inside the thought. With `drop` the judge is shown the reply alone, which
is what users of a model are shown; with `judge`, the thought as well. A response without a reply,
because its thought was cut at the length limit or never ended, is missing, not an empty reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Thinking = Literal["drop", "judge"]

TAGS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek, Qwen, GLM, MiniMax, Nemotron, ...
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<|channel>thought", "<channel|>"),  # Gemma 4
)
"""What opens a thought, and what closes it."""

MARKS = frozenset(tag for pair in TAGS for tag in pair) | {
    "<|channel|>",
    "<|message|>",
    "<|channel>",
}
"""The tags, or parts of them, that a tokenizer may have as special tokens."""

_CLOSES = dict(TAGS)


@dataclass(frozen=True, slots=True)
class Reply:
    """`text` is what a judge is shown; `missing` says why there is nothing to show it."""

    text: str
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class PromptSplit:
    """A response in two parts; `thought` is None for none, and `open` where it has no end."""

    thought: str | None
    reply: str
    open: bool = False


def split(text: str, *, opening: str | None = None, cut: bool = False) -> PromptSplit:
    """The thoughts at the beginning of `text`, and what follows them.

    `opening` is the tag with which the prompt ended, None where it opened no thought; `cut` says
    that `text` was cut, so that it may hold but the beginning of a tag. Tags further on are part of
    the reply: whatever a user would see is judged.

    >>> split("<think>They ask for a poem.</think>\\n\\nRoses are red")
    PromptSplit(thought='They ask for a poem.', reply='Roses are red', open=False)
    >>> split("They ask for", opening="<think>")
    PromptSplit(thought='They ask for', reply='', open=True)
    """
    thoughts: list[str] = []
    rest, tag = text, opening
    while True:
        if tag is None:
            begun = rest.lstrip()
            tag = next((tag for tag in _CLOSES if begun.startswith(tag)), None)
            if tag is None:
                break
            rest = begun[len(tag) :]
        thought, mark, rest = rest.partition(_CLOSES[tag])
        thoughts.append(thought.strip())
        if not mark:
            return PromptSplit("\n".join(thoughts), "", open=True)
        tag = None
    begun = rest.lstrip()
    if cut and begun and any(tag.startswith(begun) for tag in _CLOSES):
        return PromptSplit("\n".join(thoughts), "", open=True)
    if not thoughts:
        close = next((close for close in _CLOSES.values() if begun.startswith(close)), None)
        return (
            PromptSplit(None, text)
            if close is None
            else PromptSplit("", begun[len(close) :].lstrip())
        )
    return PromptSplit("\n".join(thoughts), begun)


def stray(text: str) -> str | None:
    """A closing tag in `text` without the tag that opens its thought; None where there is none."""
    for opening, close in TAGS:
        at = text.find(close)
        if at >= 0 and text.find(opening, 0, at) < 0:
            return close
    return None


def opening(prompt: str, *, prefill: str = "") -> str | None:
    """The tag of the thought that `prompt`, as the model reads it, leaves open; None for none.

    `prefill` are the first words of the response where the prompt brings them.
    """
    for tag, close in TAGS:
        begun = prefill.lstrip().startswith(tag) and close not in prefill
        if begun or prompt.rstrip().endswith(tag):
            return tag
    return None


def read_reply(
    text: str,
    *,
    thinking: str,
    cut: bool,
    limit: int,
    opening: str | None = None,
    thought: str = "",
    hidden: bool = False,
) -> Reply:
    """What counts as the response, of a model that wrote `text`.

    `thinking` is `drop` or `judge`, `limit` the longest response in tokens, at which it was `cut`
    or not. `opening` is as in `split`. `thought` is what a server gives in a field of its own, and
    `hidden` says that there was one which it does not show.
    """
    if thinking == "judge":
        whole = _joined(thought, text, cut=cut) if thought.strip() else text
        if whole.strip() or not hidden:
            return Reply(whole)
        return Reply("", _unfinished(cut, limit))
    parts = split(text, opening=opening, cut=cut)
    if parts.thought is None and (close := stray(parts.reply)) is not None:
        return Reply(text, _unclear(close))
    # of a thought in a field of its own nobody can tell whether it came to its end
    unfinished = parts.open or bool(thought.strip()) or hidden
    unfinished = unfinished or (cut and parts.thought is not None)
    if parts.reply.strip() or not unfinished:
        return Reply(parts.reply)
    return Reply("", _unfinished(cut, limit))


def thinking_notice(thinking: str, limit: int) -> str:
    """What a person should know before a model that thinks is sampled."""
    if thinking == "judge":
        return "the model thinks before it replies: its thoughts are judged with its replies"
    return (
        "the model thinks before it replies: its replies alone are judged (--thinking judge: "
        f"thoughts too), and a thought that leaves no room for a reply in {limit:,} tokens "
        "(--max-new-tokens) is a missing verdict"
    )


def _unfinished(cut: bool, limit: int) -> str:
    if cut:
        return f"no reply within {limit:,} tokens: the thought used them up; raise max-new-tokens"
    return "no reply: the response ended within the model's thought"


def _unclear(close: str) -> str:
    return (
        f"the response holds {close!r} without the tag that opens a thought: which part is the "
        "reply is not known"
    )


def _joined(thought: str, text: str, *, cut: bool) -> str:
    tag, close = TAGS[0]
    if cut and not text.strip():
        return f"{tag}\n{thought}"
    return f"{tag}\n{thought}\n{close}\n\n{text}"
