"""Where servers put what a model thought before it replied.

`reasoning_content` (DeepSeek, SGLang, llama.cpp, formerly vLLM), `reasoning` (vLLM, OpenRouter),
`reasoning_details` (OpenRouter), `thinking` (Ollama), parts of type `thinking` in the content
(Mistral); or nowhere, counted in `usage` alone (OpenAI). Servers without a parser leave it in the
text, between tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tailbound.core.thinking import TAGS, Reply, read_reply, split, stray
from tailbound.targets.endpoint.answers import Choice

if TYPE_CHECKING:
    from tailbound.core.contract import SamplingOptions

_FIELDS = ("reasoning_content", "reasoning", "thinking")


def shown(message: Any) -> str:
    """The thought that stands beside the reply in a message (or choice); empty for none."""
    if not isinstance(message, Mapping):
        return ""
    for name in _FIELDS:
        value = message.get(name)
        if isinstance(value, str) and value.strip():
            return value
    found = _texts(message.get("reasoning_details"), ("text", "summary"))
    content = message.get("content")
    if not found and isinstance(content, list):
        thinking = [p for p in content if isinstance(p, Mapping) and p.get("type") == "thinking"]
        found = _texts(thinking, ("thinking",))
    return found


def counted(usage: Mapping[str, Any]) -> int:
    """The tokens of thought that the server counts; 0 where it counts none."""
    details = usage.get("completion_tokens_details")
    holders = (details if isinstance(details, Mapping) else {}, usage)
    found = (holder.get("reasoning_tokens") for holder in holders)
    return next((n for n in found if type(n) is int and n > 0), 0)


def _texts(parts: Any, names: tuple[str, ...]) -> str:
    """The texts of a list of parts, which may hold lists of parts themselves."""
    texts: list[str] = []
    for part in parts if isinstance(parts, list) else ():
        for name in names if isinstance(part, Mapping) else ():
            value = part.get(name)
            texts.append(value if isinstance(value, str) else _texts(value, ("text",)))
    return "".join(texts)


def style(choices: Sequence[Choice]) -> tuple[str | None, str | None]:
    """(where a server puts thoughts, the tag that its template opens), by what some responses show.

    `field` is beside the reply and `inline` between tags in it; `template`: the response begins
    inside the thought, so that only the closing tag is in it; `hidden`: nowhere. None: no thoughts.
    """
    if any(choice.thought for choice in choices):
        return "field", None
    if any(split(choice.text, cut=choice.length).thought is not None for choice in choices):
        return "inline", None
    for choice in choices:
        if (close := stray(choice.text)) is not None:
            return "template", next(tag for tag, end in TAGS if end == close)
    return ("hidden" if any(choice.hidden for choice in choices) else None), None


def reply(choice: Choice, options: SamplingOptions, opening: str | None) -> Reply:
    """What of a response counts under `options`, where its prompt ended with `opening`."""
    return read_reply(
        choice.text,
        thinking=options.thinking,
        cut=choice.length,
        limit=options.max_new_tokens,
        opening=opening,
        thought=choice.thought,
        hidden=choice.hidden,
    )
