"""Where a causal language model writes to its residual stream.

A decoder layer adds the outputs of two *writers* to the stream. In a pre-norm block these are the
attention and the MLP, and what they add is linear in the weights of their last linear layers
(`outputs`). In a post-norm block (Gemma 2 and 3, OLMo 2 and 3) a norm stands behind each, and the
norms are the writers: no edit of linear layers is equal to an edit of what they write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailbound.errors import UsageError


@dataclass(frozen=True, slots=True)
class Names:
    """Module names: layers and embeddings under the decoder, the others within a layer."""

    attention: str = "self_attn"
    attention_output: str = "o_proj"
    mlp: str = "mlp"
    mlp_output: str = "down_proj"
    norms: tuple[str, str] | None = None
    layers: str = "layers"
    embeddings: tuple[str, ...] = ("embed_tokens",)


_PLAIN = Names()
_POST_NORM = Names(norms=("post_attention_layernorm", "post_feedforward_layernorm"))

ARCHITECTURES: dict[str, Names] = {
    "llama": _PLAIN,
    "mistral": _PLAIN,
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "olmo": _PLAIN,
    "phi3": _PLAIN,
    "phi": Names(attention_output="dense", mlp_output="fc2"),
    "gemma": _PLAIN,
    "gemma2": _POST_NORM,
    "gemma3_text": _POST_NORM,
    "olmo2": _POST_NORM,
    "olmo3": _POST_NORM,
    "gpt2": Names(
        attention="attn",
        attention_output="c_proj",
        mlp_output="c_proj",
        layers="h",
        embeddings=("wte", "wpe"),
    ),
    "gpt_neox": Names(
        attention="attention",
        attention_output="dense",
        mlp_output="dense_4h_to_h",
        embeddings=("embed_in",),
    ),
}
"""By `model_type` of the text config."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The modules of one model: its `layers`, and per layer two `writers` and two `outputs`.

    `embeddings` are the modules whose sum enters the first layer, `width` the stream's dimension.
    """

    model_type: str
    width: int
    layers: tuple[Any, ...]
    writers: tuple[Any, ...]
    outputs: tuple[Any, ...]
    embeddings: tuple[Any, ...]
    post_norm: bool


def anatomy(model: Any) -> Anatomy:
    """The modules of a Hugging Face causal language model; `UsageError` for unknown ones."""
    config = model.config.get_text_config()
    names = ARCHITECTURES.get(config.model_type)
    if names is None:
        raise UsageError(
            f"steering does not know the modules of model type {config.model_type!r}, only of "
            f"{', '.join(ARCHITECTURES)}: use a proposal of another kind (prompt:, model:, lora:)"
        )
    decoder = model.get_decoder()
    layers = tuple(getattr(decoder, names.layers))
    writers: list[Any] = []
    outputs: list[Any] = []
    for layer in layers:
        attention, mlp = getattr(layer, names.attention), getattr(layer, names.mlp)
        writers += (
            [attention, mlp] if names.norms is None else [getattr(layer, n) for n in names.norms]
        )
        outputs += [getattr(attention, names.attention_output), getattr(mlp, names.mlp_output)]
    return Anatomy(
        model_type=config.model_type,
        width=int(config.hidden_size),
        layers=layers,
        writers=tuple(writers),
        outputs=tuple(outputs),
        embeddings=tuple(getattr(decoder, name) for name in names.embeddings),
        post_norm=names.norms is not None,
    )
