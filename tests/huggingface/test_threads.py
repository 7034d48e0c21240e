"""Models loaded in several threads at once, while transformers replaces functions of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch
import transformers
from tiny_models import network, tokenizer

from tailbound.huggingface.checkpoints import Checkpoint, load_checkpoint

THREADS = 4


def test_models_with_tied_weights_stay_whole(tmp_path: Path) -> None:
    network(tie_word_embeddings=True).save_pretrained(tmp_path)
    tokenizer(40).save_pretrained(tmp_path)
    tie, linspace = transformers.PreTrainedModel.tie_weights, torch.linspace
    gate = Barrier(THREADS)

    def load(_: int) -> list[Checkpoint]:
        gate.wait()
        return [load_checkpoint(tmp_path, shown="m", needed_by="a test") for _ in range(5)]

    with ThreadPoolExecutor(THREADS) as pool:
        loaded = [one for found in pool.map(load, range(THREADS)) for one in found]
    assert transformers.PreTrainedModel.tie_weights is tie
    assert torch.linspace is linspace
    loaded.append(load_checkpoint(tmp_path, shown="m", needed_by="a test"))
    for checkpoint in loaded:
        head = checkpoint.model.get_output_embeddings().weight
        assert head is checkpoint.model.get_input_embeddings().weight
        assert head.device.type == "cpu"
