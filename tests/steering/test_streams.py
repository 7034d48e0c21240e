"""The stream under ablation, layer by layer, and edits of every kind of weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tailbound.steering import Ablate, Add, anatomy, edited, save_edited
from targets.tiny_models import ARCHITECTURES, network, tokenizer

IDS = torch.tensor([[2, 9, 8, 11, 30], [2, 12, 13, 14, 7], [2, 31, 9, 22, 3]])
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "vocab_size": 40,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "sliding_window": 4,
}


def unit(width: int = 32) -> torch.Tensor:
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn / drawn.norm()


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def randomised(config: Any) -> Any:
    """A model of `config` whose matrices and biases are all far from 0."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 or "bias" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model


def with_biases(kind: str) -> Any:
    """A tiny model whose biases are all far from 0 (they begin at 0)."""
    model = network(kind)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            parameter.copy_(torch.randn_like(parameter))
    return model


OTHERS = {
    "gemma": lambda: randomised(transformers.GemmaConfig(**SMALL)),
    "olmo3": lambda: randomised(transformers.Olmo3Config(**SMALL)),
    "llama-biased": lambda: randomised(
        transformers.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True)
    ),
    "gemma3-images": lambda: randomised(
        transformers.Gemma3Config(
            text_config=SMALL,
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 8,
                "patch_size": 4,
            },
            mm_tokens_per_image=4,
            image_token_index=39,
        )
    ),
}
ALL = [*sorted(ARCHITECTURES), *OTHERS]


def made(kind: str) -> Any:
    return OTHERS[kind]() if kind in OTHERS else with_biases(kind)


class Watch:
    """What every writer writes before it is steered, and the stream that enters each layer."""

    def __init__(self, model: Any) -> None:
        parts = anatomy(model)
        self.written: list[torch.Tensor] = []
        self.streams: list[torch.Tensor] = []
        # hooks run in the order in which they were put: these see what ours have not touched
        parts.layers[0].register_forward_pre_hook(self._entered, with_kwargs=True)
        for writer in parts.writers:
            writer.register_forward_hook(self._wrote)
        for layer in parts.layers:
            layer.register_forward_hook(self._left)

    def _entered(self, _module: Any, args: Any, kwargs: Any) -> None:
        self.written.append((args[0] if args else kwargs["hidden_states"]).double())

    def _wrote(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.written.append((output[0] if isinstance(output, tuple) else output).double())

    def _left(self, _module: Any, _inputs: Any, output: Any) -> None:
        self.streams.append((output[0] if isinstance(output, tuple) else output).double())


@pytest.mark.parametrize("kind", ALL)
def test_the_stream_carries_exactly_the_rest_of_the_component(kind: str) -> None:
    """After layer l: (1 - s) of the component of all that was written, and all of the rest."""
    model = made(kind)
    watch = Watch(model)
    attached = Ablate(7 * unit(), intensity=0.8).attach(model)
    attached.strength = torch.tensor([1.0, 0.5, 0.0])
    logits(model)
    left = torch.tensor([0.2, 0.6, 1.0], dtype=torch.float64)[:, None]
    layers = len(watch.streams)
    assert layers == 3
    assert len(watch.written) == 1 + 2 * layers
    for layer in range(layers):
        total = torch.stack(watch.written[: 3 + 2 * layer]).sum(0)
        along = total @ unit()
        expected = total - ((1 - left) * along)[..., None] * unit()
        torch.testing.assert_close(watch.streams[layer], expected, atol=1e-4, rtol=1e-5)
        assert along.abs().max() > 0.01


@pytest.mark.parametrize("kind", ["phi", "gpt2", "gpt-neox", "gemma", "llama-biased"])
@pytest.mark.parametrize("intensity", [1.0, 0.6])
def test_an_edit_covers_biases_positions_and_scaled_embeddings(kind: str, intensity: float) -> None:
    model = made(kind)
    if kind != "gemma":
        assert all(linear.bias.abs().min() > 0 for linear in anatomy(model).outputs)
    attached = Ablate(unit(), intensity=intensity).attach(model)
    attached.strength = torch.ones(3)
    hooked = logits(model)
    attached.remove()
    torch.testing.assert_close(logits(edited(model, unit(), intensity=intensity)), hooked,
                               atol=1e-4, rtol=1e-4)  # fmt: skip
    assert (hooked - logits(model)).abs().max() > 0.05


def test_a_saved_edit_of_a_scaled_and_tied_model_loads_back_equal(tmp_path: Path) -> None:
    model = made("gemma")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    save_edited(tmp_path, model, tokenizer(40), unit(), intensity=0.6, source="hf:tiny")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert not loaded.config.tie_word_embeddings
    torch.testing.assert_close(logits(loaded), logits(edited(model, unit(), intensity=0.6)))
    torch.testing.assert_close(loaded.lm_head.weight, model.lm_head.weight)


@pytest.mark.parametrize("how", ["ablate", "add"])
def test_half_precision_is_steered_in_fp32_and_rounded_once(how: str) -> None:
    """What a module writes in bf16 is changed as in fp64, up to one rounding."""
    model = with_biases("llama").to(torch.bfloat16)
    watch = Watch(model)
    strength = torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)
    intervention = Ablate(unit()) if how == "ablate" else Add(unit(), 0, 2.0)
    attached = intervention.attach(model)
    attached.strength = strength
    parts = anatomy(model)
    module, taken = (parts.writers[1], 2) if how == "ablate" else (parts.layers[0], None)
    after: list[torch.Tensor] = []
    module.register_forward_hook(
        lambda _m, _i, output: after.append(output[0] if isinstance(output, tuple) else output)
    )
    logits(model)
    share = strength[:, None, None]
    if taken is not None:
        before = watch.written[taken]
        expected = before - share * (before @ unit())[..., None] * unit()
    else:
        expected = watch.streams[0] + share * 2.0 * unit()
    assert after[0].dtype == torch.bfloat16
    # bf16 keeps 8 bits: one rounding moves a number by at most 2^-8 of it
    torch.testing.assert_close(after[0].double(), expected, rtol=2**-7.99, atol=1e-5)
    plain = watch.written[2] if how == "ablate" else watch.streams[0]
    assert torch.equal(after[0][2].double(), plain[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("how", ["ablate", "add"])
def test_strength_0_is_bitwise_off(dtype: torch.dtype, how: str) -> None:
    model = with_biases("phi").to(dtype)
    plain = logits(model)
    attached = (Ablate(unit()) if how == "ablate" else Add(unit(), 1, 3.0)).attach(model)
    attached.strength = torch.zeros(3, dtype=dtype)
    assert torch.equal(logits(model), plain)
    attached.strength = torch.ones(2, dtype=dtype)
    assert not torch.equal(logits(model, IDS[:2]), plain[:2])  # fewer rows than before
    attached.remove()
    assert torch.equal(logits(model), plain)
