"""The loop that sampling is measured against, and requests for the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from tailbound.core.contract import DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.huggingface.key_values import cache_argument, cache_of
from tailbound.targets.decoding.model import LocalModel


class Requests:
    """Every draw of every prompt, prompt by prompt."""

    def __init__(self, prompts: Sequence[Prompt], draws: int) -> None:
        self._left = [
            DrawRequest(prompt=prompt, stream="benchmark", index=index + 1)
            for prompt in prompts
            for index in range(draws)
        ]

    def take(self, limit: int, *, wait: bool) -> Sequence[DrawRequest]:
        """The next `limit` requests."""
        found, self._left = self._left[:limit], self._left[limit:]
        return found


@torch.inference_mode()
def minimal(
    model: Any, target: LocalModel, prompts: Sequence[Prompt], draws: int, seed: int
) -> int:
    """Tokens emitted by a loop that shares the prompt's cache and drops finished rows."""
    torch.manual_seed(seed)
    device = target.network.device
    stop = torch.tensor(target.contract.stop_ids, dtype=torch.int64, device=device)
    tokens = 0
    for prompt in prompts:
        ids = torch.tensor([target.encoder.encode(prompt)], device=device)
        for start in range(0, draws, target.batch_size):
            rows = min(target.batch_size, draws - start)
            output = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            cache = DynamicCache(
                [
                    (layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1))
                    for layer in cache_of(output).layers
                ]
            )
            logits = output.logits[:, -1].expand(rows, -1)
            for step in range(target.contract.max_new_tokens):
                token = torch.multinomial(logits.float().softmax(1), 1)
                tokens += len(token)
                going = ~torch.isin(token[:, 0], stop)
                if not bool(going.any()) or step == target.contract.max_new_tokens - 1:
                    break
                if not bool(going.all()):
                    kept = going.nonzero()[:, 0]
                    cache.batch_select_indices(kept)
                    token = token[kept]
                output = model(input_ids=token, use_cache=True, **{cache_argument(model): cache})
                logits = output.logits[:, -1]
    return tokens
