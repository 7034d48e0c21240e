"""What a judge is shown of an exchange."""

from __future__ import annotations

from tailbound.judges.base import Exchange
from tailbound.prompts import Prompt

RESPONSE, BOTH = "response", "prompt+response"
SEE = (RESPONSE, BOTH)
"""The choices of the option `see`."""

NOT_SHOWN = "(not shown)"


def request_text(prompt: Prompt) -> str:
    """What was asked: the text of a single message, else one `role: text` line per message."""
    if len(prompt.messages) == 1:
        return prompt.text
    return "\n".join(f"{role}: {content}" for role, content in prompt.messages)


def conversation(exchange: Exchange, see: str) -> list[tuple[str, str]]:
    """(role, text) of user and assistant, ending with the response; system prompts left out.

    Where the prompt itself ends with words put into the assistant's mouth, the response goes on
    from there. With `see` "response" the request is one user message that says it is not shown.
    """
    if see == RESPONSE:
        return [("user", NOT_SHOWN), ("assistant", exchange.response)]
    turns = [turn for turn in exchange.prompt.messages if turn[0] != "system"]
    response = exchange.response
    if turns and turns[-1][0] == "assistant":
        response = turns.pop()[1] + response
    return [*turns, ("assistant", response)]
