"""One response of a model of Inspect, read into the parts that a draw is made of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tailbound.core.finish_reasons import (
    broken_reason,
    content_filter_reason,
    finish_kind,
    unknown_reason,
)
from tailbound.core.outside import clean_text, one_line
from tailbound.core.prompt import Prompt
from tailbound.errors import TargetError, UsageError
from tailbound.targets.endpoint.answers import Answer, Choice
from tailbound.targets.endpoint.cost import Usage

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, Model, ModelOutput

    from tailbound.core.contract import SamplingOptions

TIMEOUT = 300
"""Seconds for one response, the waits and tries of Inspect's provider included."""
TRIES = 4
"""So often a response is asked for where the provider gives up on it."""
_FIRST_WAIT = 0.5
_ROLES = ("system", "user", "assistant")


@dataclass(slots=True)
class Asking:
    """Puts prompts to `model`, once there is one, under `options`; counts it in `usage`.

    Nothing is cached, and no seed is sent: few providers take one, and those that do promise
    little.
    """

    name: str
    options: SamplingOptions
    model: Model | None = None
    usage: Usage = field(default_factory=Usage)
    giving_up: bool = False

    def check(self, prompt: Prompt) -> None:
        """Raise `UsageError` for a prompt that cannot be put to a chat model."""
        roles = [role for role, _ in prompt.messages]
        other = next((role for role in roles if role not in _ROLES), None)
        if other is not None:
            raise UsageError(
                f"prompt {prompt.id!r} has a message of the role {other!r}: inspect-model: takes "
                f"{', '.join(_ROLES)}"
            )
        if roles[-1] == "assistant":
            raise UsageError(
                f"prompt {prompt.id!r} ends with the beginning of an answer, which few of "
                "Inspect's providers continue: end it with a user's message"
            )
        if self.options.system is not None and roles[0] == "system":
            raise UsageError(f"prompt {prompt.id!r} brings its own system prompt: remove --system")

    async def ask(self, prompt: Prompt, **changes: Any) -> Answer:
        """One response; `changes` replace parameters of the contract.

        What fails in passing is asked for again. Raises `TargetError` where it fails for good.
        """
        wait = _FIRST_WAIT
        for left in reversed(range(TRIES)):
            try:
                output = await self._generate(prompt, changes)
            except Exception as error:  # whatever a provider raises
                final = not left or self.giving_up or self._hopeless(error)
                if final:
                    line = one_line(f"{type(error).__name__}: {error}", 300)
                    raise TargetError(
                        f"inspect-model:{self.name} failed on prompt {prompt.id!r} ({line}); "
                        "finished draws are kept: fix it, then repeat the command"
                    ) from error
                self.usage.retries += 1
                await asyncio.sleep(wait)
                wait *= 2
            else:
                return self._read(output)
        raise AssertionError

    async def _generate(self, prompt: Prompt, changes: dict[str, Any]) -> ModelOutput:
        from inspect_ai.model import GenerateConfig

        options = self.options
        asked: dict[str, Any] = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k,
            "max_tokens": options.max_new_tokens,
            "stop_seqs": list(options.stop) or None,
            "timeout": TIMEOUT,
            **changes,
        }
        if asked["top_p"] == 1:  # of two parameters some providers take only one
            del asked["top_p"]
        self.usage.requests += 1
        assert self.model is not None
        return await self.model.generate(
            self._messages(prompt), config=GenerateConfig(**asked), cache=False
        )

    def _messages(self, prompt: Prompt) -> list[ChatMessage]:
        from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

        kinds: dict[str, Any] = dict(
            zip(_ROLES, (ChatMessageSystem, ChatMessageUser, ChatMessageAssistant), strict=True)
        )
        system = self.options.system
        first = [] if system is None else [("system", system)]
        return [kinds[role](content=text) for role, text in [*first, *prompt.messages]]

    def _hopeless(self, error: Exception) -> bool:
        """Whether the same request would fail in the same way again."""
        try:
            refused = self.model is not None and self.model.api.is_auth_failure(error)
        except Exception:  # the provider's own code: what it cannot tell is worth another try
            refused = False
        status = getattr(error, "status_code", None)
        return refused or isinstance(error, TimeoutError) or status in (400, 401, 403, 404, 422)

    def _read(self, output: ModelOutput) -> Answer:
        tokens_in = tokens_out = None
        thought_tokens = 0
        if output.usage is not None:
            tokens_in, tokens_out = output.usage.input_tokens, output.usage.output_tokens
            thought_tokens = output.usage.reasoning_tokens or 0
            self.usage.tokens_in += tokens_in
            self.usage.tokens_out += tokens_out
        else:
            self.usage.uncounted += 1
        choice = _choice(output, tokens_out, thought_tokens)
        if choice.content_filter is not None:
            self.usage.content_filter += 1
        return Answer(
            choices=(choice,),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            fingerprint=None,
            has_log_probs=False,
            model=clean_text(output.model) or None,
            tokens_thought=thought_tokens,
        )


def _choice(output: ModelOutput, tokens: int | None, thought_tokens: int) -> Choice:
    """The first choice; a response of which nobody can tell how it ended is not whole."""
    if not output.choices:
        why = one_line(output.error or "the model gave no response", 300)
        return Choice("", length=False, tokens=tokens, log_prob=None, incomplete=why)
    first = output.choices[0]
    reason = first.stop_reason
    kind = finish_kind(reason)
    thought = _thought(first.message.content)
    withheld = incomplete = None
    if kind == "filter":
        withheld = content_filter_reason(reason)
    elif output.error:
        incomplete = one_line(f"the model refused or failed: {output.error}", 300)
    elif kind == "broken":
        incomplete = broken_reason(reason)
    elif kind == "unknown":
        incomplete = unknown_reason(reason)
    return Choice(
        text=clean_text(first.message.text),
        length=kind == "length",
        tokens=tokens,
        log_prob=None,
        content_filter=withheld,
        incomplete=incomplete,
        thought=thought,
        hidden=not thought and thought_tokens > 0,
    )


def _thought(content: str | list[Any]) -> str:
    """What the model thought before it replied, where Inspect keeps that apart."""
    if isinstance(content, str):
        return ""
    parts = [one for one in content if one.type == "reasoning"]
    texts = [(one.summary or "") if one.redacted else one.reasoning for one in parts]
    return clean_text("".join(texts))
