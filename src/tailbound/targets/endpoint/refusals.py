"""What a server says when it refuses one prompt, as against the key, the model or the parameters.

A prompt that a provider's or a proxy's moderation turns away, or that does not fit, costs its own
draws and no others: they are missing, with the server's words. Known by what providers document:
OpenAI (`invalid_prompt`, `content_policy_violation`, `context_length_exceeded`), Azure and litellm
("content management policy"), DashScope (`data_inspection_failed`), OpenRouter ("flagged", 403),
xAI ("violates usage guidelines", 403), DeepSeek ("Content Exists Risk"), Moonshot ("high risk"),
Zhipu (1301, "contentFilter"), MiniMax (`base_resp`), Bedrock (guardrails), vLLM, SGLang, TGI and
llama.cpp (context length).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from tailbound.core.outside import OutsideError, one_line, parse_json

_FILTERED = re.compile(
    r"content.?filter|content.?policy|content management policy|content.?moderation"
    r"|responsibleaipolicyviolation|invalid_prompt|data.?inspection.?failed|inappropriate.content"
    r"|(?:input|prompt|content|request|messages?|output)\b.{0,30}\bflagged|flagged_input"
    r"|requires moderation|violat\w+ (?:\w+ ){0,3}(?:usage|use) (?:guidelines|polic)"
    r"|safety_check_type|for safety reasons|blocked by (?:\w+ ){0,4}(?:guardrail|safety|filter)"
    r"|guardrail_intervened|prompt injection|content exists risk|considered high risk"
    r"|(?:input|output|new)_?.sensitive|sensitive content|prohibited_content"
    r"|\b1301\b.*contentfilter"
)
_TOO_LONG = re.compile(
    r"context.?length|context.?window|context.?size|(?:prompt|input|request|string)\b.{0,20}\btoo "
    r"(?:long|large)|string_(?:above_max_length|too_long)|token count.{0,40}exceeds"
    r"|tokens \+ .{0,30}must be <=|range of input length|max_model_len|too many (?:input )?tokens"
)
#: These are about whoever asks, and hold for all prompts.
_NOT_THE_PROMPT = re.compile(
    r"account\b.{0,60}\b(?:flagged|suspended|deactivated|disabled|banned|blocked|terminated)"
    r"|organi[sz]ation\b.{0,60}\b(?:suspended|disabled|restricted|banned)|insufficient_quota"
    r"|(?:invalid|incorrect) api key"
)
_STATUSES = (200, 400, 403, 413, 422, 451, 500, 502)
_WORDS = 300


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one prompt has no response: `kind` and `reason`, in the words of the server."""

    kind: Literal["filter", "too long"]
    reason: str


def prompt_refusal(status: int, body: bytes) -> Refusal | None:
    """The refusal of a prompt that an error says; None for all other errors.

    >>> prompt_refusal(400, b'{"error": {"code": "content_filter", "message": "filtered"}}')
    Refusal(kind='filter', reason="the server's content filter refuses the prompt: filtered")
    >>> prompt_refusal(401, b'{"error": {"message": "Incorrect API key provided"}}')
    """
    if status not in _STATUSES:
        return None
    found = _error(body, answered=status == 200)
    if found is None:
        return None
    codes, words = found
    text = f"{codes} {words}".casefold()
    if _NOT_THE_PROMPT.search(text):
        return None
    if _FILTERED.search(text):
        return Refusal("filter", f"the server's content filter refuses the prompt: {words}")
    # of a server that fails, only a filter is believed: overload speaks of sizes, too
    if status < 500 and (status == 413 or _TOO_LONG.search(text)):
        return Refusal("too long", f"the prompt does not fit: {words}")
    return None


def _error(body: bytes, *, answered: bool) -> tuple[str, str] | None:
    """(everything that it says, its message in one line); None where no error is reported."""
    try:
        document = parse_json(body)
    except OutsideError:
        return (
            None
            if answered
            else (body.decode(errors="replace"), _line(body.decode("utf-8", "replace")))
        )
    reported = _reported(document)
    if answered and reported is None:
        return None
    return str(document if reported is None else reported), _line(_message(reported, document))


def _reported(document: Any) -> Any:
    """The part of a document that is an error, wherever servers put it."""
    if not isinstance(document, dict):
        return None
    for name in ("error", "base_resp", "promptFeedback"):
        if document.get(name):
            beside = {k: document[k] for k in ("contentFilter",) if document.get(k)}
            return {name: document[name], **beside}
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _message(reported: Any, document: Any) -> str:
    holders = [reported, document]
    if isinstance(reported, dict):
        holders = [reported.get("error"), reported.get("base_resp"), reported, document]
    for holder in holders:
        if isinstance(holder, str):
            return holder
        if isinstance(holder, dict):
            for name in ("message", "status_msg", "detail"):
                if isinstance(holder.get(name), str) and holder[name]:
                    return str(holder[name])
    return str(document)


def _line(text: str) -> str:
    return one_line(text, _WORDS) or "(nothing said)"
