"""A guard model in this process: conversations in, answers with their probabilities out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tailbound.errors import UsageError
from tailbound.judges.formatting import control_tokens, escape_control_tokens
from tailbound.judges.guard_answers import Answer, Conversation
from tailbound.judges.guard_formats import GuardFormat

_PROBE = "qzvjxwk{}"
"""A text that no template holds by itself."""


class GuardModel:
    """Answers of a causal language model that was trained to guard.

    `template` is a chat template (Jinja over `messages`, each with `role` and `content`) in place
    of the tokenizer's own. The first answer is greedy; a second one is sampled at temperature 1
    by noise that depends on the conversation alone. Control tokens that a text spells out are
    broken up, so that no response ends its own turn and answers for the guard. Raises `UsageError`
    where the template shows the model only part of the conversation.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        form: GuardFormat,
        *,
        template: str | None = None,
        batch_size: int = 8,
        context: int | None = None,
    ) -> None:
        import transformers

        self._model, self._tokenizer, self._form = model, tokenizer, form
        self._batch_size, self._context = batch_size, context
        if template is None and not tokenizer.chat_template:
            raise UsageError(
                "guard judge: this model has no chat template: save the input format of its model "
                "card as a Jinja file over `messages` and add ?template=FILE"
            )
        self._template = template
        self._control = control_tokens(tokenizer)
        self._shown: dict[tuple[str, ...], bool] = {}
        self._parts = self._content_style()
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise UsageError(
                "guard judge: this model's tokenizer has neither a padding nor an end token: name "
                "its end token as eos_token in tokenizer_config.json"
            )
        tokenizer.padding_side = "left"
        settings = model.generation_config
        # the model's own temperature or penalties would change what it answers
        generation_config: Any = transformers.GenerationConfig
        self._settings = generation_config(
            max_new_tokens=form.max_new_tokens,
            do_sample=False,
            eos_token_id=settings.eos_token_id or tokenizer.eos_token_id,
            bos_token_id=settings.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
        )
        self._unsafe = _beginnings(tokenizer, form.unsafe)
        self._safe = _beginnings(tokenizer, form.safe)

    @property
    def template_digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the template that is used."""
        text = self._template or str(self._tokenizer.chat_template)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __call__(self, conversations: Sequence[Conversation], *, again: bool) -> list[Answer]:
        """One answer for each conversation; `again` asks for another one than the first."""
        texts: dict[int, str] = {}
        answers: dict[int, Answer] = {}
        for number, conversation in enumerate(conversations):
            try:
                texts[number] = self._whole(conversation)
            except Exception as error:  # jinja raises whatever the template's author wrote
                reason = str(error).partition("\n")[0]
                answers[number] = Answer(problem=f"the guard's chat template fails: {reason}")
        order = sorted(texts, key=lambda number: len(texts[number]))
        size = 1 if again else self._batch_size  # noise of a row must not depend on its neighbours
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            found = self._batch([texts[number] for number in chosen], again=again)
            answers.update(zip(chosen, found, strict=True))
        return [answers[number] for number in range(len(conversations))]

    def _batch(self, texts: Sequence[str], *, again: bool) -> list[Answer]:
        import torch

        # a template writes the special tokens itself
        rows = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        room = None if self._context is None else self._context - self._form.max_new_tokens
        fits = [room is None or len(row) <= room for row in rows]
        answers = [
            Answer(problem=f"{len(row)} tokens are more than the guard reads ({room})")
            for row in rows
        ]
        kept = [text for text, fit in zip(texts, fits, strict=True) if fit]
        if not kept:
            return answers
        inputs = self._tokenizer(
            kept, add_special_tokens=False, padding=True, return_tensors="pt"
        ).to(self._model.device)
        inputs.pop("token_type_ids", None)
        noise = [_Noise(kept[0])] if again else []
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                generation_config=self._settings,
                logits_processor=noise,
            )
        spoken = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        found = iter(
            self._answer(tokens, [step[row] for step in out.logits])
            for row, tokens in enumerate(spoken)
        )
        return [next(found) if fit else answer for fit, answer in zip(fits, answers, strict=True)]

    def _answer(self, tokens: Sequence[int], logits: Sequence[Any]) -> Answer:
        text = self._decode(tokens)
        for step in range(len(tokens)):
            before = self._decode(tokens[:step])
            here = self._decode(tokens[: step + 1])
            if self._form.anchor.fullmatch(before) and here.strip() != before.strip():
                chances = logits[step].double().softmax(0)
                unsafe = float(chances[self._unsafe].sum())
                either = unsafe + float(chances[self._safe].sum())
                return Answer(text, unsafe / either if either > 0 else None)
        return Answer(text)

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _content_style(self) -> bool:
        """Whether the template wants texts as lists of parts; it must show both turns of two."""
        problem: Exception | None = None
        for parts in (False, True):
            try:
                if self._shows_all(("user", "assistant"), parts=parts):
                    return parts
            except Exception as error:  # jinja raises whatever the template's author wrote
                problem = error
        detail = "" if problem is None else f" ({str(problem).partition(chr(10))[0]})"
        raise UsageError(
            "guard judge: the model's chat template does not show a request and its response"
            f"{detail}: give the guard's own format with ?template=FILE"
        )

    def _whole(self, conversation: Conversation) -> str:
        """The text of a conversation; raises `ValueError` where it lacks turns."""
        if not self._shows_all(tuple(role for role, _ in conversation)):
            raise ValueError(f"it shows only some of {len(conversation)} turns")
        return self._render(conversation)

    def _shows_all(self, roles: tuple[str, ...], *, parts: bool | None = None) -> bool:
        """Whether the template shows every turn of a conversation between these roles."""
        if parts is not None or roles not in self._shown:
            words = [_PROBE.format(f"{number:03}") for number in range(len(roles))]
            text = self._render(list(zip(roles, words, strict=True)), parts=parts)
            # a list of parts that is printed as such shows its braces
            self._shown[roles] = all(word in text for word in words) and "{'type'" not in text
        return self._shown[roles]

    def _render(self, conversation: Conversation, *, parts: bool | None = None) -> str:
        as_parts = self._parts if parts is None else parts
        plain = [(role, escape_control_tokens(text, self._control)) for role, text in conversation]
        messages = [
            {"role": role, "content": [{"type": "text", "text": text}] if as_parts else text}
            for role, text in plain
        ]
        return str(
            self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
            )
        )


class _Noise:
    """Gumbel noise on the logits of one row: the largest is then a draw at temperature 1."""

    def __init__(self, name: str) -> None:
        import torch

        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, ids: Any, scores: Any) -> Any:
        import torch

        noise = torch.empty(scores.shape, dtype=torch.float64).exponential_(
            generator=self._generator
        )
        return scores.double() - noise.log().to(scores.device)


def _beginnings(tokenizer: Any, word: str) -> list[int]:
    """Ids of the tokens with which `word` may begin, in any case, with or without a space."""
    found = []
    for token, number in tokenizer.get_vocab().items():
        plain = token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "\n").strip().lower()
        if plain and word.startswith(plain):
            found.append(number)
    return sorted(found)
