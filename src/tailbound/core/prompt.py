"""One prompt, and the id that its content gives it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt: chat messages or raw text, with a stable id.

    `messages` are `(role, content)` pairs; a plain text prompt is one user message. `group` names
    the query of which this prompt is one wording (the id where there is no group).
    """

    id: str
    messages: tuple[tuple[str, str], ...]
    group: str | None = None

    @property
    def text(self) -> str:
        """The content of the last message: the prompt itself where there is only one."""
        return self.messages[-1][1]

    @property
    def unit(self) -> str:
        """What is split and calibrated as one: the group, else the id."""
        return self.group if self.group is not None else self.id


def content_id(messages: tuple[tuple[str, str], ...]) -> str:
    """First 16 hex digits of the SHA-256 of the messages; the same on every machine."""
    canonical = json.dumps(messages, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
