"""Adapters of rank 1 as peft applies them, against weights that are edited directly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tailbound.errors import UsageError
from tailbound.huggingface.adapters import attached
from tailbound.steering.checks import adapter_folder
from tailbound.steering.lora import rank_one, save_adapters
from tailbound.steering.modules import anatomy
from targets.tiny_models import ARCHITECTURES, network

POST_NORM = {"gemma2", "gemma3", "olmo2"}
PRE_NORM = sorted(set(ARCHITECTURES) - POST_NORM)
IDS = torch.tensor([[2, 9, 8, 11, 30], [2, 12, 13, 14, 7], [2, 31, 9, 22, 3]])
VECTOR = torch.randn(32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def written(folder: Path, model: Any, *intensities: float) -> list[Path]:
    return save_adapters(
        folder, model, VECTOR, intensities=intensities, source="hf:tiny", revision="sha256:1"
    )


@torch.no_grad()
def by_hand(kind: str, intensity: float) -> Any:
    """The model with its output projections, and nothing else, multiplied by (I - s d d^T)."""
    model = network(kind)
    unit = VECTOR / VECTOR.norm()
    matrix = torch.eye(32, dtype=torch.float64) - intensity * torch.outer(unit, unit)
    for linear in anatomy(model).outputs:
        weight = linear.weight.double()
        changed = matrix @ weight if isinstance(linear, nn.Linear) else weight @ matrix
        linear.weight.copy_(changed.float())
    return model


@pytest.mark.parametrize("kind", PRE_NORM)
def test_an_adapter_equals_the_edit_of_the_weights(kind: str, tmp_path: Path) -> None:
    model = network(kind)
    plain = logits(model)
    for intensity, folder in zip((1.0, 0.3), written(tmp_path, model, 1.0, 0.3), strict=True):
        served = logits(attached(model, folder, name="lora"))
        expected = logits(by_hand(kind, intensity))
        assert (served - expected).abs().max() < 1e-5 * (1 + expected.abs().max())
        assert (served - plain).abs().max() > 0.01
    assert torch.equal(logits(model), plain)


def test_full_strength_leaves_nothing_of_the_direction_in_what_is_written() -> None:
    model = network("llama")
    unit = (VECTOR / VECTOR.norm()).float()
    factors = rank_one(model, VECTOR, intensity=1.0)
    for name, linear in model.named_modules():
        if f"base_model.model.{name}.lora_A.weight" in factors:
            one, two = (factors[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            assert (unit @ (linear.weight + two @ one)).abs().max() < 1e-6
            assert (unit @ linear.weight).abs().max() > 0.01
    assert len(factors) == 2 * len(anatomy(model).outputs)


def test_what_the_files_say(tmp_path: Path) -> None:
    (folder,) = written(tmp_path, network("llama"), 0.5)
    assert folder == adapter_folder(tmp_path, 0.5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (1, 1, "none")
    assert config["target_modules"] == ["down_proj", "o_proj"]
    note = json.loads((folder / "tailbound-edit.json").read_text())
    assert (note["intensity"], note["source"], note["revision"]) == (0.5, "hf:tiny", "sha256:1")
    shapes = {tuple(t.shape) for t in load_file(folder / "adapter_model.safetensors").values()}
    assert shapes == {(1, 32), (1, 48), (32, 1)}


def test_the_digest_is_that_of_the_base_weights(tmp_path: Path) -> None:
    def digest(folder: Path, model: Any) -> str:
        (one,) = written(folder, model, 1.0)
        found: str = json.loads((one / "tailbound-edit.json").read_text())["base_sha256"]
        return found

    model = network("llama")
    first = digest(tmp_path / "a", model)
    assert digest(tmp_path / "b", network("llama")) == first
    with torch.no_grad():
        anatomy(model).outputs[0].weight[0, 0] += 1
    assert digest(tmp_path / "c", model) != first


@pytest.mark.parametrize("kind", sorted(POST_NORM))
def test_adapters_are_refused_where_norms_follow(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="norms behind its attention and MLP"):
        written(tmp_path, network(kind), 1.0)
    assert list(adapter_folder(tmp_path, 1.0).parent.iterdir()) == []


def test_a_direction_of_another_width_is_refused() -> None:
    with pytest.raises(UsageError, match="32 wide: it was made for another model"):
        rank_one(network("llama"), torch.ones(16), intensity=1.0)


def test_nothing_is_written_over_other_files(tmp_path: Path) -> None:
    taken = adapter_folder(tmp_path, 0.5)
    taken.mkdir()
    (taken / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        written(tmp_path, network("llama"), 1.0, 0.5)
    assert not adapter_folder(tmp_path, 1.0).exists()
