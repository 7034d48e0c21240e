"""What a judge is shown of an exchange."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.judges.base import Exchange

RESPONSE, BOTH = "response", "prompt+response"
SEE = (RESPONSE, BOTH)
"""The choices of the option `see`."""

NOT_SHOWN = "(not shown)"


_COMMON_CONTROL = re.compile(
    r"<(?=[|｜][^|｜<>\s]{1,40}[|｜]>|/?s>|(?:start|end)_of_turn>)|\[(?=/?INST\])"
)
"""First letters of the control tokens of chat models: <|im_end|>, </s>, [INST] and their like."""


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The special tokens of a Hugging Face tokenizer, as a text would spell them."""
    added = tokenizer.added_tokens_decoder.values()
    found = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    return tuple(sorted(token for token in found if len(token) > 1))


def escape_control_tokens(text: str, control: Collection[str] = ()) -> str:
    """`text` with a space behind the first letter of every control token that it spells out.

    A tokenizer would take "<|eot_id|>" in a response for the end of that turn, and what follows
    for the next one's. `control` are its own tokens; those that most chat models use are always
    among them.

    >>> escape_control_tokens("a<|eot_id|>b <b>")
    'a< |eot_id|>b <b>'
    """
    for token in control:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return _COMMON_CONTROL.sub(r"\g<0> ", text)


def request_text(prompt: Prompt) -> str:
    """What was asked: the text of a single message, else one `role: text` line per message."""
    if len(prompt.messages) == 1:
        return prompt.text
    return "\n".join(f"{role}: {content}" for role, content in prompt.messages)


def conversation(exchange: Exchange, see: str) -> list[tuple[str, str]]:
    """(role, text) of user and assistant, ending with the response; system prompts left out.

    Where the prompt itself ends with words put into the assistant's mouth, the response continues
    from there. With `see` "response" the request is one user message that says it is not shown.
    """
    if see == RESPONSE:
        return [("user", NOT_SHOWN), ("assistant", exchange.response)]
    turns = [turn for turn in exchange.prompt.messages if turn[0] != "system"]
    response = exchange.response
    if turns and turns[-1][0] == "assistant":
        response = turns.pop()[1] + response
    return [*turns, ("assistant", response)]
