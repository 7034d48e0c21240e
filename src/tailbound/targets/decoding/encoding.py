"""Prompts to token ids as the contract says, and responses back to text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.outside import clean_text
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import MARKS, TAGS, Reply, opening, read_reply
from tailbound.errors import NoChatTemplateError, UsageError

TODAY = date(2024, 7, 26)
"""What templates that print the date are told: a prompt must not change from day to day."""

_DATE_FORMATS = ("%d", "%m", "%b", "%B", "%y", "%Y", "%A", "%a", "%j")


class Encoder:
    """The tokenizer of a model under given options.

    Raises `UsageError` at once if a chat is asked of a tokenizer without a chat template.
    """

    def __init__(
        self,
        tokenizer: Any,
        options: SamplingOptions,
        *,
        context: int | None,
        vocabulary: int | None = None,
    ) -> None:
        """`context` is the model's in tokens, `vocabulary` the number of ids that it can read."""
        self._tokenizer = tokenizer
        self._context = context
        self._vocabulary = vocabulary
        if not options.completion and not tokenizer.chat_template:
            raise NoChatTemplateError(
                "this model has no chat template: use --completion to continue raw text, or "
                "hf:NAME?chat_template=FILE"
            )
        self._template = None if options.completion else _dated(_template(tokenizer))
        self.options = self._options = self._with_room(options)
        self.stop_ids = _stop_ids(tokenizer, options.stop)
        self._marks = _marks(tokenizer)
        # templating costs more than a decoding step; an audit asks for each prompt many times
        self.encode = lru_cache(maxsize=1 << 16)(self._encode)
        self._opening = lru_cache(maxsize=1 << 16)(self._find_opening)

    def _with_room(self, options: SamplingOptions) -> SamplingOptions:
        """`options` with room for thoughts where the model has them, up to half its context."""
        room = options.thinking_room if self.thinks else 0
        if self._context is not None:
            room = max(0, min(room, self._context // 2 - options.max_new_tokens))
        return replace(options, thinking_room=room).with_room()

    def with_system(self, system: str) -> Encoder:
        """The same encoder under the system prompt `system`."""
        return Encoder(
            self._tokenizer,
            replace(self._options, system=system),
            context=self._context,
            vocabulary=self._vocabulary,
        )

    @property
    def template_digest(self) -> str | None:
        """SHA-256 of the chat template as it is used, None for raw completions."""
        if self._template is None:
            return None
        return hashlib.sha256(self._template.encode()).hexdigest()

    @property
    def thinks(self) -> bool:
        """Whether the chat template knows of thoughts."""
        return any(tag in (self._template or "") for pair in TAGS for tag in pair)

    def decode(self, responses: Sequence[Sequence[int]]) -> list[str]:
        """Text of each response, special tokens left out, unless they mark a thought."""
        if not responses:
            return []
        texts: list[str] = self._tokenizer.batch_decode(
            responses, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        for number, response in enumerate(responses if self._marks else ()):
            if not self._marks.keys().isdisjoint(response):
                texts[number] = self._marked(response)
        return [clean_text(text) for text in texts]

    def _marked(self, response: Sequence[int]) -> str:
        parts: list[str] = []
        run: list[int] = []
        for token in (*response, None):
            if token is not None and token not in self._marks:
                run.append(token)
                continue
            parts.append(
                self._tokenizer.decode(
                    run, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
            )
            parts.append("" if token is None else self._marks[token])
            run = []
        return "".join(parts)

    def reply(self, prompt: Prompt, text: str, *, cut: bool) -> Reply:
        """What of `text`, written in response to `prompt` and `cut` or not, is the response."""
        return read_reply(
            text,
            thinking=self._options.thinking,
            cut=cut,
            limit=self._options.max_new_tokens,
            opening=self._opening(prompt),
        )

    def _find_opening(self, prompt: Prompt) -> str | None:
        if self._options.completion:
            return opening(prompt.text)
        role, last = prompt.messages[-1]
        text = self._chat_text(prompt)
        return opening(text, prefill=last if role == "assistant" else "")

    def _encode(self, prompt: Prompt) -> tuple[int, ...]:
        ids = self._completion(prompt) if self._options.completion else self._chat(prompt)
        if not ids:
            raise UsageError(f"prompt {prompt.id!r} has no tokens: leave it out")
        if self._vocabulary is not None and max(ids) >= self._vocabulary:
            raise UsageError(
                f"prompt {prompt.id!r} has the token id {max(ids)}, and the model reads ids below "
                f"{self._vocabulary} only: its tokenizer belongs to another model"
            )
        room = len(ids) + self._options.max_new_tokens
        if self._context is not None and room > self._context:
            raise UsageError(
                f"prompt {prompt.id!r} has {len(ids)} tokens, with max-new-tokens "
                f"{self._options.max_new_tokens} more than the model's context of "
                f"{self._context}: shorten it or lower --max-new-tokens"
            )
        return tuple(ids)

    def _completion(self, prompt: Prompt) -> list[int]:
        if len(prompt.messages) > 1:
            raise UsageError(
                f"prompt {prompt.id!r} is a chat of {len(prompt.messages)} messages: "
                "remove --completion"
            )
        ids: list[int] = self._tokenizer(prompt.text, verbose=False)["input_ids"]
        return ids

    def _chat(self, prompt: Prompt) -> list[int]:
        text = self._chat_text(prompt)
        # the template brings its own first token
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _chat_text(self, prompt: Prompt) -> str:
        """The prompt as the template shows it, every message in it."""
        messages: list[dict[str, Any]] = [
            {"role": role, "content": content} for role, content in prompt.messages
        ]
        if self._options.system is not None:
            if messages[0]["role"] == "system":
                raise UsageError(
                    f"prompt {prompt.id!r} brings its own system prompt: remove --system"
                )
            messages.insert(0, {"role": "system", "content": self._options.system})
        text = self._rendered(prompt, messages)
        if not all(self._shown(prompt, messages, at, text) for at in range(len(messages))):
            # templates of multimodal models may read a list of parts, and nothing of a string
            messages = [
                {"role": m["role"], "content": [{"type": "text", "text": m["content"]}]}
                for m in messages
            ]
            text = self._rendered(prompt, messages)
            for at, message in enumerate(messages):
                if not self._shown(prompt, messages, at, text):
                    system = message["role"] == "system"
                    raise UsageError(
                        f"the model's chat template leaves the {message['role']} message of prompt "
                        f"{prompt.id!r} out" + (": use no system prompt here" if system else "")
                    )
        return text

    def _rendered(self, prompt: Prompt, messages: Sequence[dict[str, Any]]) -> str:
        # a chat that ends with the assistant's words is continued from there
        started = messages[-1]["role"] == "assistant"
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                add_generation_prompt=not started,
                continue_final_message=started,
                tokenize=False,
                date_string=TODAY.strftime("%d %b %Y"),
            )
        except Exception as error:  # jinja raises whatever the template's author wrote
            reason = str(error).partition("\n")[0]
            raise UsageError(
                f"the model's chat template refuses prompt {prompt.id!r}: {reason}"
            ) from error
        return text

    def _shown(
        self, prompt: Prompt, messages: Sequence[dict[str, Any]], at: int, text: str
    ) -> bool:
        """Whether the rendered `text` depends on message `at`; an assistant's may be shortened."""
        content = messages[at]["content"]
        plain = content if isinstance(content, str) else content[0]["text"]
        if messages[at]["role"] not in ("user", "system") or plain.strip() in text:
            return True
        # not to be found as it is: a template may change it, but not leave it out
        other = plain + " x"
        changed = other if isinstance(content, str) else [{"type": "text", "text": other}]
        varied = [*messages[:at], {**messages[at], "content": changed}, *messages[at + 1 :]]
        return self._rendered(prompt, varied) != text


def _template(tokenizer: Any) -> str:
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:  # several, and none of them is called "default"
        names = ", ".join(tokenizer.chat_template)
        raise UsageError(
            f"this model has chat templates {names}, and none is the default: save the one to use "
            "as its chat_template.jinja"
        ) from error
    return template


def _stop_ids(tokenizer: Any, stop: Sequence[str]) -> frozenset[int]:
    """Ids that end a response by the tokenizer, or by a stop text that is a special token.

    Special tokens have no place in a response's text, where stop texts are looked for; so one that
    holds a special token and more is refused.
    """
    found = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    special = {
        **{
            token.content: id
            for id, token in tokenizer.added_tokens_decoder.items()
            if token.special
        },
        **dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)),
    }
    for text in stop:
        inside = next((token for token in special if token in text), None)
        if text in special:
            found.add(special[text])
        elif inside is not None:
            raise UsageError(
                f"the stop text {text!r} holds the special token {inside!r}, which is never part "
                f"of a text: use --stop {inside!r}"
            )
    return frozenset(found)


def _marks(tokenizer: Any) -> dict[int, str]:
    """Special tokens that open or close a thought: they are left out of no text."""
    return {
        id: token.content
        for id, token in tokenizer.added_tokens_decoder.items()
        if token.special and token.content in MARKS
    }


def _dated(template: str) -> str:
    """`template` with the function `strftime_now`, where it uses that, bound to `TODAY`.

    As a macro in front, because the renderer lets no function through; the empty expression
    keeps the template's first newline.
    """
    if "strftime_now" not in template:
        return template
    chain = "".join(f"|replace('{f}', '{TODAY.strftime(f)}')" for f in _DATE_FORMATS)
    macro = f"{{% macro strftime_now(format) %}}{{{{ format{chain} }}}}{{% endmacro %}}"
    return f"{macro}{{{{ '' }}}}{template}"
