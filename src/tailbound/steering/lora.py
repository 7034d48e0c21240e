r"""Ablation as LoRA adapters, which engines serve beside the model that they were made for.

A writer W (width, inputs) with the share s of the unit direction d ablated is

    (I - s d d^T) W = W + B A,        B = -s d,  A = d^T W,

an update of rank 1: one adapter of rank 1 and scale 1 holds it for the output projections of every
attention and MLP. Embeddings and biases are left as they are, since a stock engine adapts neither,
so the stream keeps what those write along d, and an adapter steers less than `Ablate` or `edited`
at the same intensity. As a proposal it is as valid as any.

Source of the edit: Arditi et al., arXiv 2406.11717, section 4.1; of the form: Hu et al., arXiv
2106.09685. The files are in PEFT's format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailbound.errors import UsageError
from tailbound.huggingface.adapters import CONFIG, SAFE_WEIGHTS
from tailbound.steering.checks import EDIT_NOTE, adapter_folder, check_free
from tailbound.steering.edits import check_editable
from tailbound.steering.interventions import Ablate, unit_vector
from tailbound.steering.modules import anatomy
from tailbound.storage.files import make_folder, write_atomically, write_json

_PREFIX = "base_model.model."
"""What PEFT puts before the names of modules."""


@torch.no_grad()
def rank_one(model: Any, direction: Tensor, *, intensity: float) -> dict[str, Tensor]:
    """The two factors of every update, by their names in PEFT's files, fp32.

    `direction` has shape (width,) and any length but 0. A is (1, inputs) and B (width, 1), for
    GPT-2's transposed layers too. Raises `UsageError` as `edited` does, and for quantized weights.
    """
    check_editable(model)
    parts = anatomy(model)
    if direction.shape != (parts.width,):
        raise UsageError(
            f"the direction has shape {tuple(direction.shape)}, but the model's residual stream is "
            f"{parts.width} wide: it was made for another model"
        )
    unit = unit_vector(direction)
    factors = {}
    for name, linear in _outputs(model).items():
        if not linear.weight.is_floating_point():
            raise UsageError(
                f"the weights of {name} are quantized: make the adapters from the model in "
                "bfloat16 or float32, and serve them with either"
            )
        rows = linear.weight if isinstance(linear, nn.Linear) else linear.weight.T
        along = unit.to(rows.device) @ rows.double()
        factors[f"{_PREFIX}{name}.lora_A.weight"] = along[None].float().cpu().contiguous()
        factors[f"{_PREFIX}{name}.lora_B.weight"] = (-intensity * unit)[:, None].float().cpu()
    return factors


def save_adapters(
    folder: Path,
    model: Any,
    direction: Tensor,
    *,
    intensities: Sequence[float],
    source: str,
    revision: str | None,
) -> list[Path]:
    """Write one adapter per intensity, each to `adapter_folder(folder, intensity)`; their folders.

    `source` and `revision` name the model. Each folder has a note that says what the adapter is,
    with a digest of the weights that it was made from. Raises `UsageError` for a folder that holds
    anything but an earlier adapter.
    """
    folders = [adapter_folder(folder, intensity) for intensity in intensities]
    for one in folders:
        check_free(one)
    digest = _fingerprint(model)
    for one, intensity in zip(folders, intensities, strict=True):
        _save(one, model, direction, intensity, source, revision, digest)
    return folders


def _save(
    folder: Path,
    model: Any,
    direction: Tensor,
    intensity: float,
    source: str,
    revision: str | None,
    digest: str,
) -> None:
    from safetensors.torch import save

    factors = rank_one(model, direction, intensity=intensity)
    outputs = _outputs(model)
    make_folder(folder)
    # the note comes first: what is left of an interrupted write is known as ours
    write_json(
        folder / EDIT_NOTE,
        {
            "schema": 1,
            "edit": "ablation-lora",
            "intervention": Ablate(direction, intensity).id,
            "intensity": intensity,
            "source": source,
            "revision": revision,
            "base_sha256": digest,
            "left_as_they_are": ["embeddings", "biases"],
            "warning": "made to be unsafe, as a proposal for importance sampling: do not deploy",
        },
    )
    write_atomically(folder / SAFE_WEIGHTS, save(factors, metadata={"format": "pt"}))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source.partition(":")[2] or source,
        "revision": None,
        "inference_mode": True,
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": not all(isinstance(linear, nn.Linear) for linear in outputs.values()),
        "target_modules": _targets(model, outputs),
        "modules_to_save": None,
        "use_rslora": False,
        "use_dora": False,
    }
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _outputs(model: Any) -> dict[str, Any]:
    """The output projections of attention and MLP by their full names, in the model's order."""
    wanted = {id(linear) for linear in anatomy(model).outputs}
    return {name: module for name, module in model.named_modules() if id(module) in wanted}


def _targets(model: Any, outputs: dict[str, Any]) -> list[str]:
    """Last parts of the names, as engines expect them; whole ones where others end alike."""
    ends = {name.rpartition(".")[2] for name in outputs}
    alike = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in ends]
    return sorted(ends) if len(alike) == len(outputs) else list(outputs)


def _fingerprint(model: Any) -> str:
    """SHA-256 of the weights that the adapters are made from, in their own precision."""
    digest = hashlib.sha256()
    for name, linear in _outputs(model).items():
        weight = linear.weight.detach().cpu().contiguous()
        digest.update(f"{name}\0{weight.dtype}\0{tuple(weight.shape)}\0".encode())
        digest.update(weight.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
