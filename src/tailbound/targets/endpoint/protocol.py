"""Requests and answers as OpenAI-compatible servers speak them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.finish_reasons import content_filter_reason, finish_kind, unknown_reason
from tailbound.core.outside import (
    OutsideError,
    clean_text,
    count,
    finite,
    one_line,
    parse_json,
    visible,
)
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.targets.endpoint import thoughts
from tailbound.targets.endpoint.answers import Answer, Choice
from tailbound.targets.endpoint.extra_body import parameters

#: What leaves the distribution whole. Servers have defaults of their own that cut its tail.
NEUTRAL: dict[str, float | int] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}

#: No answer is longer: 4,096 tokens of 64 responses with log-probabilities come to about 50 MB.
MOST_BYTES = 64 * 2**20
_LOWEST = 1e6


class MalformedResponseError(Exception):
    """An answer that is none: to be asked for again, never to be read as a draw."""


@dataclass(slots=True)
class Dialect:
    """How one server wants to be spoken to; the probe finds out.

    `limit` is its name for the longest response, `extras` are the neutral parameters that it
    takes, and `seed`, `stop` and `log_probs` say whether these may be sent. `left_out` are
    parameters that it refuses even at the value that changes nothing: they are not sent at it.
    `prefill` are those that make a chat continue the assistant's last message.
    """

    limit: str = "max_tokens"
    extras: dict[str, float | int] = field(default_factory=lambda: dict(NEUTRAL))
    seed: bool = True
    stop: bool = True
    log_probs: bool = False
    left_out: set[str] = field(default_factory=set)
    prefill: dict[str, bool] = field(default_factory=dict)


class RequestBuilder:
    """Turns prompts into requests of one model under one contract."""

    def __init__(self, model: str, options: SamplingOptions, dialect: Dialect) -> None:
        self._model = model
        self._options = options
        self.dialect = dialect
        self.path = "completions" if options.completion else "chat/completions"

    @property
    def longest(self) -> int:
        """The most tokens of a response."""
        return self._options.max_new_tokens

    @property
    def log_probs_value(self) -> int | bool:
        """What asks for the log-probability of every token."""
        return 1 if self._options.completion else True

    def check(self, prompt: Prompt) -> None:
        """Raise `UsageError` where the prompt cannot be put to the model under these options."""
        if self._options.completion and len(prompt.messages) > 1:
            raise UsageError(
                f"prompt {prompt.id!r} is a conversation, which has no raw completion: "
                "remove --completion"
            )
        if self._options.system is not None and prompt.messages[0][0] == "system":
            raise UsageError(f"prompt {prompt.id!r} brings its own system prompt: remove --system")

    def request(
        self, prompt: Prompt, *, seed: int, n: int = 1, begun: str = "", **changes: Any
    ) -> bytes:
        """The body of a request for `n` responses; `changes` replace parameters, None drops one.

        With `begun` the response begins so, and the answers are to hold the rest of it.

        Parameters that were agreed upon are always sent, whatever the server's defaults are.
        """
        options, dialect = self._options, self.dialect
        body: dict[str, Any] = {
            "model": self._model,
            **self._subject(prompt, begun),
            **self._tempering(),
            dialect.limit: options.max_new_tokens,
            **dialect.extras,
            **parameters(options.extra_body),
        }
        if options.top_k is not None:
            body["top_k"] = options.top_k
        if n > 1:
            body["n"] = n
        if dialect.seed:
            body["seed"] = seed
        if options.stop and dialect.stop:
            body["stop"] = list(options.stop)
        if dialect.log_probs:
            body["logprobs"] = self.log_probs_value
        for name, value in changes.items():
            body[dialect.limit if name == "max_tokens" else name] = value
        return json.dumps({k: v for k, v in body.items() if v is not None}).encode()

    def _tempering(self) -> dict[str, float]:
        """Temperature and top-p, but where 1 is to be left out."""
        asked = {"temperature": self._options.temperature, "top_p": self._options.top_p}
        return {n: v for n, v in asked.items() if v != 1 or n not in self.dialect.left_out}

    def _subject(self, prompt: Prompt, begun: str) -> dict[str, Any]:
        if self._options.completion:
            return {"prompt": prompt.text + begun}
        messages = [{"role": role, "content": text} for role, text in prompt.messages]
        more: dict[str, Any] = {}
        if begun:
            more = dict(self.dialect.prefill)
            if messages[-1]["role"] == "assistant":
                messages[-1]["content"] += begun
            else:
                messages.append({"role": "assistant", "content": begun})
        if self._options.system is not None:
            messages.insert(0, {"role": "system", "content": self._options.system})
        return {"messages": messages, **more}

    def tokens_at_most(self, prompt: Prompt, begun: str = "") -> int:
        """More tokens than the prompt has: its bytes, and room for a chat template."""
        texts = [text for _, text in prompt.messages] + [self._options.system or "", begun]
        return sum(len(text.encode()) + 16 for text in texts) + 64


def read(body: bytes) -> Answer:
    """The answer in `body`; raises `MalformedResponseError` where part of it cannot be trusted."""
    try:
        document = parse_json(body, most=MOST_BYTES)
    except OutsideError as error:
        raise MalformedResponseError(
            f"an answer that is not JSON ({error}): {_short(body)}"
        ) from None
    found = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(found, list) or not found:
        raise MalformedResponseError(f"an answer without choices: {_short(body)}")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    out = count(usage.get("completion_tokens"))
    alone = out if len(found) == 1 else None
    thought = thoughts.counted(usage)
    choices = tuple([_choice(choice, body, tokens=alone, thought=thought > 0) for choice in found])
    if out is not None:  # some servers count one of several responses
        out = max(out, sum(choice.tokens or 0 for choice in choices))
    return Answer(
        choices=choices,
        tokens_in=count(usage.get("prompt_tokens")),
        tokens_out=out,
        fingerprint=_name(document.get("system_fingerprint")),
        model=_name(document.get("model")),
        has_log_probs=all(choice.get("logprobs") for choice in found),
        tokens_thought=thought,
    )


def is_cut_short(status: int, body: bytes) -> bool:
    """Whether a refusal says that a thought reached the limit (OpenAI, for some of its models)."""
    return status == 400 and b"max_tokens or model output limit was reached" in body


def cut(text: str, stops: Sequence[str]) -> str | None:
    """`text` up to the first stop string, None where it holds none."""
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def _choice(choice: Any, body: bytes, *, tokens: int | None, thought: bool) -> Choice:
    reason = _finish_reason(choice)
    kind = "broken" if reason is None else finish_kind(reason)
    if reason is None or kind == "broken":
        raise MalformedResponseError(f"a response that was broken off: {_short(body)}")
    message = choice.get("message")
    text = choice.get("text") if message is None else _content(message)
    if kind == "filter" and not isinstance(text, str):
        text = ""
    if not isinstance(text, str):
        raise MalformedResponseError(f"a response without text: {_short(body)}")
    text = clean_text(text)
    shown = clean_text(thoughts.shown(choice if message is None else message))
    length = kind == "length"
    # beside a thought that stands elsewhere, or where a filter cut, the sum is that of a part
    whole = kind in ("finished", "length") and not shown and not thought
    given = choice.get("logprobs")
    return Choice(
        text=text,
        length=length,
        tokens=_tokens(given) if tokens is None else tokens,
        log_prob=_log_prob(given, text, ended=not length) if whole else None,
        content_filter=content_filter_reason(reason) if kind == "filter" else None,
        incomplete=unknown_reason(reason) if kind == "unknown" else None,
        thought=shown,
        # a response that was cut before it began: not every server counts what it hides
        hidden=not shown and (thought or (length and not text)),
    )


def _finish_reason(choice: Any) -> str | None:
    """Why the response ended; a proxy's `stop` yields to a filter that the model's server names."""
    if not isinstance(choice, dict):
        return None
    specific = choice.get("provider_specific_fields")
    for holder in (choice, specific if isinstance(specific, dict) else {}):
        native = holder.get("native_finish_reason")
        if isinstance(native, str) and finish_kind(native) == "filter":
            return native
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) else None


def _content(message: Any) -> str | None:
    """What a chat message says: text, a refusal, or calls of tools as JSON; None for nonsense."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, str) and content:
        return content
    if message.get("tool_calls"):
        return json.dumps(message["tool_calls"])
    if isinstance(message.get("refusal"), str):
        return str(message["refusal"])
    # a model that ends at once says nothing, which servers give as null or leave out
    return "" if content is None or content == "" else None


def _name(value: Any) -> str | None:
    return one_line(value, 200) or None if isinstance(value, str) else None


def _tokens(given: Any) -> int | None:
    """How many tokens have a log-probability: the share of one response of several."""
    if not isinstance(given, dict):
        return None
    listed = given.get("content") or given.get("tokens")
    return len(listed) if isinstance(listed, list) and listed else None


def _log_prob(given: Any, text: str, *, ended: bool) -> float | None:
    """The sum over all tokens, the one that ended the response included; None if in doubt."""
    if not isinstance(given, dict):
        return None
    try:
        if given.get("content"):
            values = [finite(token["logprob"]) for token in given["content"]]
            said = "".join(token["token"] for token in given["content"])
        else:
            values = [finite(value) for value in given["token_logprobs"]]
            said = "".join(given["tokens"])
    except (KeyError, TypeError):
        return None
    said = clean_text(said)
    whole = said.startswith(text) and len(said) > len(text) if ended else said == text
    known = [value for value in values if value is not None and -_LOWEST < value <= 0]
    return math.fsum(known) if whole and len(known) == len(values) else None


def _short(body: bytes) -> str:
    return visible(one_line(body[:200].decode(errors="replace"), 200)) or "(empty)"
