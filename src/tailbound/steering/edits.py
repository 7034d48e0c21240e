r"""Ablation as an edit of weights, for engines that cannot be hooked.

    W <- (I - s d d^T) W        for everything that writes to the residual stream,

embeddings and biases included. In a pre-norm model the stream then carries exactly (1 - s) of the
component along d, as under `Ablate`. In a post-norm block a norm stands between the weights and the
stream, so no such edit exists, and it is refused.

Source: Arditi et al., arXiv 2406.11717, section 4.1.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailbound.errors import UsageError
from tailbound.huggingface.hf_logging import quiet
from tailbound.huggingface.saving import save_pretrained
from tailbound.steering.checks import EDIT_NOTE, check_free
from tailbound.steering.interventions import Ablate, unit_vector
from tailbound.steering.modules import anatomy
from tailbound.storage.files import write_json


def check_editable(model: Any) -> None:
    """Raise `UsageError` for a model of which no edit of the weights equals the ablation."""
    parts = anatomy(model)
    if parts.post_norm:
        raise UsageError(
            f"{parts.model_type} has norms behind its attention and MLP, so no edit of the weights "
            "equals the ablation: steer it in process instead (--proposal refusal)"
        )


@torch.no_grad()
def edited(model: Any, direction: Tensor, *, intensity: float = 1.0) -> Any:
    """A copy of `model` with `direction`, shape (width,), ablated from its weights.

    Raises `UsageError` for architectures with norms behind their blocks, for unknown ones, and for
    a direction of another width or of length 0.
    """
    check_editable(model)
    parts = anatomy(model)
    if direction.shape != (parts.width,):
        raise UsageError(
            f"the direction has shape {tuple(direction.shape)}, but the model's residual stream is "
            f"{parts.width} wide: it was made for another model"
        )
    unit = unit_vector(direction)
    result = copy.deepcopy(model)
    _untie(result)
    copied = anatomy(result)
    for embedding in copied.embeddings:
        embedding.weight.copy_(_projected(embedding.weight, unit, intensity))
    for linear in copied.outputs:
        # one output per row in nn.Linear, per column in GPT-2's Conv1D
        if isinstance(linear, nn.Linear):
            linear.weight.copy_(_projected(linear.weight.T, unit, intensity).T)
        else:
            linear.weight.copy_(_projected(linear.weight, unit, intensity))
        if linear.bias is not None:
            linear.bias.copy_(_projected(linear.bias[None], unit, intensity)[0])
    return result


def _projected(rows: Tensor, unit: Tensor, intensity: float) -> Tensor:
    """`rows` (n, width) with the component along `unit` scaled by 1 - intensity, in fp64."""
    unit = unit.to(rows.device)
    wide = rows.double()
    return (wide - intensity * (wide @ unit)[:, None] * unit).to(rows.dtype)


def _untie(model: Any) -> None:
    """Give the head weights of its own: it reads the stream, and must not be edited."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _make_savable(model: Any) -> None:
    """Leave only the special ids of generation settings that load but cannot be saved.

    Such as a temperature without `do_sample`, which many a checkpoint has; the sampling contract
    does not use them anyway.
    """
    from transformers import GenerationConfig

    settings = model.generation_config
    plain: Any = GenerationConfig
    try:
        settings.validate(strict=True)
    except ValueError:
        ids = ("bos_token_id", "eos_token_id", "pad_token_id")
        model.generation_config = plain(**{name: getattr(settings, name) for name in ids})


def save_edited(
    folder: Path, model: Any, tokenizer: Any, direction: Tensor, *, intensity: float, source: str
) -> None:
    """Write the edited model, its tokenizer and a note of what it is to `folder`.

    Any engine can load and serve it; it is a deliberately unsafe model, and the note says so.
    Raises `UsageError` for a folder that holds anything but an earlier edit.
    """
    check_free(folder)
    result = edited(model, direction, intensity=intensity)
    with quiet():
        _make_savable(result)
        save_pretrained(result, folder)
        save_pretrained(tokenizer, folder)
    write_json(
        folder / EDIT_NOTE,
        {
            "schema": 1,
            "edit": "ablation",
            "intervention": Ablate(direction, intensity).id,
            "intensity": intensity,
            "source": source,
            "warning": "made to be unsafe, as a proposal for importance sampling: do not deploy",
        },
    )
