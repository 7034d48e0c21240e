"""Small random models with word-level tokenizers, and sources of requests, for these tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from tailbound.core.contract import DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.targets.decoding.model import LocalModel

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eot>", "<user>", "<bot>", "<sys>"]
EOT = 3
TEMPLATE = (
    "<bos>{% for m in messages %} "
    "{{ {'user': '<user>', 'system': '<sys>', 'assistant': '<bot>'}[m.role] }} {{ m.content }}"
    "{% endfor %}{% if add_generation_prompt %} <bot>{% endif %}"
)


def tokenizer(vocabulary: int, *, template: str | None = TEMPLATE) -> Any:
    """One word per token; ids 7 and above are w7, w8, ..."""
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), vocabulary))][:vocabulary]
    made = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eot>",
    )
    fast.chat_template = template
    return fast


_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": EOT,
}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-grouped": ("Llama", {"num_key_value_heads": 2}),
    "llama-multiquery": ("Llama", {"num_key_value_heads": 1}),
    "mistral-sliding": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 5}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen2-mixed": (
        "Qwen2",
        {"num_key_value_heads": 2, "sliding_window": 4, "max_window_layers": 1}
        | {"use_sliding_window": True},
    ),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 12}),
    "gemma2": ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4}),
    "gemma3": ("Gemma3Text", {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4,
                              "sliding_window_pattern": 2}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {"sliding_window": 6, "num_key_value_heads": 2}),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {"num_key_value_heads": 2}),
    "gpt2": ("GPT2", {}),
    "gpt-neox": ("GPTNeoX", {}),
}  # fmt: skip


def network(kind: str = "llama", *, vocabulary: int = 40, seed: int = 0, **changes: Any) -> Any:
    """A random model with logits a few units wide, so that probabilities are uneven."""
    family, extra = ARCHITECTURES[kind]
    config_class = getattr(transformers, f"{family}Config")
    settings = {**_SMALL, "vocab_size": vocabulary, **extra, **changes}
    if family == "GPT2":
        settings |= {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128}
    config = config_class(**settings)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            # several times the usual spread, biases and norms left alone
            parameter.copy_(torch.randn_like(parameter) * (1.0 if "embed" in name else 0.3))
    return model


def local_model(
    model: Any,
    options: SamplingOptions | None = None,
    *,
    template: str | None = TEMPLATE,
    **engine: Any,
) -> LocalModel:
    """`model` as a target, with the word-level tokenizer."""
    return LocalModel(
        model,
        tokenizer(model.config.get_text_config().vocab_size, template=template),
        options if options is not None else SamplingOptions(max_new_tokens=8),
        name="hf:tiny",
        revision=None,
        **engine,
    )


def prompt(number: int, words: int = 3) -> Prompt:
    """A prompt of some words out of w7 .. w30."""
    text = " ".join(f"w{7 + (5 * number + 3 * word) % 24}" for word in range(words))
    return Prompt(id=f"p{number}", messages=(("user", text),))


def requests(prompts: Sequence[Prompt], draws: int, *, stream: str = "test") -> list[DrawRequest]:
    """Draws 1, ..., `draws` of every prompt, prompt by prompt."""
    return [
        DrawRequest(prompt=p, stream=stream, index=index + 1)
        for p in prompts
        for index in range(draws)
    ]


class Queue:
    """A source of given requests, at most `portion` at a time."""

    def __init__(self, items: Sequence[DrawRequest], *, portion: int | None = None) -> None:
        self.items = list(items)
        self.portion = portion
        self.largest_limit = 0

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        """The next requests."""
        assert limit > 0
        self.largest_limit = max(self.largest_limit, limit)
        size = limit if self.portion is None else min(limit, self.portion)
        found, self.items = self.items[:size], self.items[size:]
        return found


def plain_log_prob(model: Any, ids: Sequence[int], response: Sequence[int]) -> float:
    """log p(response | ids) by one forward pass without cache, mask or padding, in fp32."""
    whole = torch.tensor([[*ids, *response]])
    with torch.inference_mode():
        logits = model(input_ids=whole, use_cache=False).logits[0].double()
    steps = logits[len(ids) - 1 : -1].log_softmax(1)
    return float(steps[torch.arange(len(response)), torch.tensor(response)].sum())
