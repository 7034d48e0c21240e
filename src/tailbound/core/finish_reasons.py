"""Why a response ended, in the words of servers and logs, read into a few kinds.

Values are compared without case and punctuation, so that `MAX_TOKENS`, `max-tokens` and
`maxTokens` are one. A value that is in none of the sets says nothing that can be relied on: a
response that ended so is missing, never judged as if it were whole.
"""

from __future__ import annotations

from typing import Literal

FinishKind = Literal["finished", "length", "filter", "broken", "unknown"]

#: The model came to its own end, or to a stop string (OpenAI, vLLM, SGLang, llama.cpp: `stop`;
#: TGI: `eos_token`, `stop_sequence`; Anthropic: `end_turn`, `tool_use`; Cohere: `COMPLETE`).
FINISHED = (
    "stop",
    "stop_sequence",
    "stop_token",
    "end_turn",
    "eos",
    "eos_token",
    "complete",
    "completed",
    "tool_call",
    "tool_calls",
    "tool_use",
    "function_call",
)

#: The response was cut at a limit of tokens or of the context (OpenAI: `length`; Gemini, Anthropic:
#: `max_tokens`; Mistral, Inspect: `model_length`; Cohere: `ERROR_LIMIT`; watsonx: `token_limit`).
LENGTH = (
    "length",
    "max_length",
    "max_tokens",
    "max_output_tokens",
    "max_completion_tokens",
    "model_length",
    "context_length",
    "context_length_exceeded",
    "model_context_window_exceeded",
    "token_limit",
    "error_limit",
)

#: A filter kept back the response or what was left of it (OpenAI, Azure, Inspect: `content_filter`;
#: Gemini and Vertex: `SAFETY` to `IMAGE_RECITATION`; Zhipu, Tencent: `sensitive`; Anthropic, whose
#: classifiers end a response so: `refusal`; Bedrock: `guardrail_intervened`, `content_filtered`;
#: Cohere: `ERROR_TOXIC`; DashScope: `data_inspection_failed`).
FILTER = (
    "content_filter",
    "content_filtered",
    "content_policy_violation",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "model_armor",
    "jailbreak",
    "escalation",
    "image_safety",
    "image_prohibited_content",
    "image_recitation",
    "sensitive",
    "input_sensitive",
    "output_sensitive",
    "refusal",
    "guardrail",
    "guardrails",
    "guardrail_intervened",
    "error_toxic",
    "data_inspection_failed",
    "moderation",
    "blocked",
    "flagged",
    "censored",
)

#: The server failed or was stopped: the same request may succeed (vLLM, SGLang: `abort`;
#: OpenRouter, Mistral: `error`; Zhipu: `network_error`; DeepSeek: `insufficient_system_resource`).
BROKEN = (
    "abort",
    "aborted",
    "cancel",
    "cancelled",
    "canceled",
    "user_cancel",
    "error",
    "network_error",
    "time_limit",
    "timeout",
    "insufficient_system_resource",
)


def _plain(reason: str) -> str:
    return "".join(letter for letter in reason.casefold() if letter.isalnum())


_KINDS: dict[str, FinishKind] = {
    **dict.fromkeys(map(_plain, FINISHED), "finished"),
    **dict.fromkeys(map(_plain, LENGTH), "length"),
    **dict.fromkeys(map(_plain, FILTER), "filter"),
    **dict.fromkeys(map(_plain, BROKEN), "broken"),
}


def finish_kind(reason: str) -> FinishKind:
    """The kind of a finish reason; `content_filter: X`, as Gemini has it, is of kind `filter`.

    >>> finish_kind("STOP"), finish_kind("FinishReason.SAFETY"), finish_kind("content_filter: SPII")
    ('finished', 'filter', 'filter')
    >>> finish_kind("OTHER")
    'unknown'
    """
    value = reason.removeprefix("FinishReason.")
    kind = _KINDS.get(_plain(value), "unknown")
    if kind == "unknown" and _KINDS.get(_plain(value.partition(":")[0])) == "filter":
        return "filter"
    return kind


def content_filter_reason(reason: str | None = None) -> str:
    """Why a response that a filter kept back has no verdict; `reason` where it says more."""
    line = "the server's content filter withheld the response"
    if reason is None or _plain(reason) == "contentfilter":
        return line
    return f"{line} (finish_reason {_quoted(reason)})"


def unknown_reason(reason: str) -> str:
    """Why a response with an unknown finish reason has no verdict."""
    return f"the response ended with finish_reason {_quoted(reason)}, whose meaning is not known"


def broken_reason(reason: str) -> str:
    """Why a response that was broken off has no verdict."""
    return f"the response was broken off (finish_reason {_quoted(reason)})"


def _quoted(reason: str) -> str:
    return repr(reason if len(reason) <= 60 else reason[:57] + "...")
