"""Attention of one new token per row, for CPUs.

The fused kernel that torch picks on a CPU is made for long queries; for a single one two batched
matrix products are up to twice as fast. Everything else goes to the fused kernel as before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "tailbound"

_SPECIAL = ("softcap", "position_bias", "s_aux", "cache")
"""Arguments with which a model asks for more than plain attention."""


def use_row_attention(model: Any) -> None:
    """Let `model`, if it runs fused attention on a CPU, decode single tokens faster."""
    if model.device.type != "cpu" or model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Outputs (rows, width, heads, dimension) for queries (rows, heads, width, dimension)."""
    rows, heads, width, size = query.shape
    special = any(kwargs.get(name) is not None for name in _SPECIAL)
    if special or width > 1 or attention_mask is None or not attention_mask.is_floating_point():
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    # queries that share a head of keys side by side: no copies of keys and values
    packed = query.reshape(rows, key.shape[1], -1, size)
    scores = packed.mul(size**-0.5 if scaling is None else scaling) @ key.transpose(2, 3)
    weights = scores.add_(attention_mask).softmax(-1, dtype=_precision(scores)).to(value.dtype)
    return (weights @ value).reshape(rows, 1, heads, value.shape[3]), None


def _precision(scores: Tensor) -> torch.dtype:
    return torch.float64 if scores.dtype == torch.float64 else torch.float32
