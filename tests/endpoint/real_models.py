"""Tiny chat models whose tokens are bytes: a folder for transformers, a GGUF for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, pre_tokenizers

EOS = 256
TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


THINKING_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}assistant: "
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<end>\n"
    "{% else %}{{ m.role }}: {{ m.content }}<end>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
)
"""Opens a thought, as those of DeepSeek-R1 and Qwen3 Thinking do."""


def write(folder: Path) -> None:
    """A random Llama that samples by default; its tokenizer knows single bytes."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)} | {"<end>": EOS}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<end>"])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")
    fast.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=EOS + 1,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=EOS,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    head = model.get_output_embeddings().weight
    head.mul_(20)
    # printable letters alone, so that texts are valid and stop strings can be looked for
    for letter, number in vocabulary.items():
        if not (letter.isascii() and letter.isalpha() and letter.islower()) and number != EOS:
            head[number] = 0.0
    model.generation_config.do_sample = True
    model.generation_config.temperature = 1.0
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def write_gguf(
    path: Path,
    template: str = TEMPLATE,
    *,
    merged: bool = False,
    quantize: bool = False,
    without: str = "",
) -> None:
    """A random Llama in one file, as llama.cpp reads it, and with `merged` transformers as well.

    transformers wants the token that a merge makes. With `quantize` the matrices are in blocks of 8
    bits. The tensor `without` is left out.
    """
    import gguf
    import numpy as np

    width, layers, hidden = 32, 2, 64
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>", *(["ab"] if merged else [])]
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(width // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * EOS + [3] + [1] * merged)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(EOS)
    writer.add_bos_token_id(EOS)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)

    def tensor(name: str, *shape: int, scale: float = 0.2) -> None:
        values = (rng.normal(size=shape) * scale).astype(np.float32)
        if name == without:
            return
        if quantize:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)

    tensor("token_embd.weight", len(tokens), width, scale=1.0)
    head = (rng.normal(size=(len(tokens), width)) * 0.5).astype(np.float32)
    letters = [t.isascii() and t.isalpha() and t.islower() for t in tokens[:EOS]]
    head[[not letter for letter in letters] + [True] * (1 + merged)] = 0
    writer.add_tensor("output.weight", head)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(width, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{layer}.{name}.weight", width, width)
        tensor(f"blk.{layer}.ffn_gate.weight", hidden, width)
        tensor(f"blk.{layer}.ffn_up.weight", hidden, width)
        tensor(f"blk.{layer}.ffn_down.weight", width, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def serve_gguf(path: str) -> None:
    """Run a llama.cpp server on `path` until standard input closes; prints its address."""
    import sys

    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = path
    settings.n_ctx, settings.n_parallel = 2048, 4
    server = xllamacpp.Server(settings)
    print("READY", server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    import sys

    serve_gguf(sys.argv[1])
