"""Chat messages as JSON has them: `[{"role": ..., "content": ...}]`."""

from __future__ import annotations

from typing import Any

Messages = tuple[tuple[str, str], ...]

TEXT_PARTS = ("text", "input_text", "output_text")


class NotMessagesError(ValueError):
    """The value is no list of chat messages; the text of the error says what it holds instead."""


def parse_messages(value: list[Any]) -> Messages:
    """The messages as (role, content) pairs.

    A content may be a list of text parts, `[{"type": "text", "text": ...}]`; several parts are
    joined by line breaks. Raises `NotMessagesError` for anything else: pictures, tool calls, null.
    """
    return tuple(_message(message) for message in value)


def _message(message: Any) -> tuple[str, str]:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or not role:
        raise NotMessagesError(
            f'{message!r:.80}; a message is {{"role": "user", "content": "text"}}'
        )
    content = message.get("content")
    if isinstance(content, str):
        return role, content
    if isinstance(content, list) and content:
        return role, "\n".join(_part(part) for part in content)
    raise NotMessagesError(
        f'{message!r:.80}; a message is {{"role": "user", "content": "text"}} or has text parts'
    )


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    named = part.get("type", "text") if isinstance(part, dict) else None
    text = part.get("text") if isinstance(part, dict) else None
    if named in TEXT_PARTS and isinstance(text, str):
        return text
    shown = f"a part of type {named!r}" if isinstance(named, str) else f"the part {part!r:.60}"
    raise NotMessagesError(f"{shown}: only text can be given to a model here")
