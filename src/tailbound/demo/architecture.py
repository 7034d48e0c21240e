"""The demo model and its tokenizer as Hugging Face objects: untrained, and written to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tailbound.demo import vocabulary


def new_model(seed: int) -> Any:
    """An untrained model: Llama architecture, about 0.25 M parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary.WORDS),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=vocabulary.BEGIN,
            eos_token_id=vocabulary.END,
            pad_token_id=vocabulary.PAD,
        )
    )


def new_tokenizer() -> Any:
    """The word-level tokenizer, with the chat template."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(vocab=dict(vocabulary.IDS), unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(
        tokenizer_object=words,
        bos_token="<bos>",
        eos_token="<eot>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<sys>", "<user>", "<bot>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
    tokenizer.chat_template = vocabulary.CHAT_TEMPLATE
    return tokenizer


def save(model: Any, record: dict[str, Any], folder: Path) -> None:
    """Write weights, tokenizer, generation settings and the record of the training."""
    generation = model.generation_config
    generation.do_sample = True
    generation.temperature = generation.top_p = 1.0
    generation.top_k = 0
    generation.max_new_tokens = 32
    generation.eos_token_id, generation.pad_token_id = vocabulary.END, vocabulary.PAD
    model.save_pretrained(folder)
    new_tokenizer().save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
