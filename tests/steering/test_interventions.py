"""Hooks and edits of weights on every architecture, against the definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tailbound.errors import UsageError
from tailbound.steering.edits import edited, save_edited
from tailbound.steering.interventions import Ablate, Add
from tailbound.steering.modules import anatomy
from targets.tiny_models import ARCHITECTURES, network, tokenizer

POST_NORM = {"gemma2", "gemma3", "olmo2"}
PRE_NORM = sorted(set(ARCHITECTURES) - POST_NORM)
IDS = torch.tensor([[2, 9, 8, 11, 30], [2, 12, 13, 14, 7], [2, 31, 9, 22, 3]])


def direction(width: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


def streams(model: Any) -> list[torch.Tensor]:
    """The residual stream at the input of every layer, and behind the last one."""
    seen: list[torch.Tensor] = []

    def note(_module: Any, args: Any, kwargs: Any) -> None:
        seen.append(args[0] if args else kwargs["hidden_states"])

    def note_last(_module: Any, _inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    layers = anatomy(model).layers
    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    handles.append(layers[-1].register_forward_hook(note_last))
    logits(model)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_full_ablation_leaves_nothing_in_the_stream(kind: str) -> None:
    model = network(kind)
    d = direction().float() / direction().norm().float()
    before = [(x @ d).abs().max().item() for x in streams(model)]
    attached = Ablate(direction()).attach(model)
    attached.strength = torch.ones(3)
    after = [(x @ d).abs().max().item() / x.norm(dim=-1).max().item() for x in streams(model)]
    attached.remove()
    assert min(before) > 1e-2
    # the hook of the first layer's input runs after the one that looks at it
    assert max(after[1:]) < 2e-6


def test_half_an_ablation_scales_what_is_written() -> None:
    """The first layer's input and the first attention's output, by hand."""
    model = network("llama")
    d = (direction() / direction().norm()).float()
    layer = anatomy(model).layers[0]
    seen: list[torch.Tensor] = []
    handle = layer.input_layernorm.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    logits(model)
    attached = Ablate(direction(), intensity=0.5).attach(model)
    attached.strength = torch.tensor([1.0, 0.6, 0.0])
    logits(model)
    handle.remove()
    plain, steered = seen
    left = torch.tensor([0.5, 0.7, 1.0])[:, None]
    torch.testing.assert_close(steered @ d, left * (plain @ d), atol=1e-5, rtol=1e-5)
    across = plain - (plain @ d)[..., None] * d
    torch.testing.assert_close(steered - (steered @ d)[..., None] * d, across, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
@pytest.mark.parametrize("how", ["ablate", "add"])
def test_every_row_is_steered_at_its_own_strength(kind: str, how: str) -> None:
    model = network(kind)
    plain = logits(model)
    intervention = Ablate(direction()) if how == "ablate" else Add(5 * direction(), 1, 0.5)
    attached = intervention.attach(model)
    assert torch.equal(logits(model), plain)  # off
    attached.strength = torch.tensor([1.0, 0.0, 0.6])
    together = logits(model)
    assert torch.equal(together[1], plain[1])
    for row, strength in ((0, 1.0), (2, 0.6)):
        attached.strength = torch.tensor([strength])
        alone = logits(model, IDS[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone, atol=2e-4, rtol=1e-4)
        # at every position: the distribution is another one
        change = together[row] - plain[row]
        assert (change.amax(-1) - change.amin(-1) > 1e-4).all()
    attached.remove()
    assert torch.equal(logits(model), plain)


@pytest.mark.parametrize("kind", PRE_NORM)
@pytest.mark.parametrize("intensity", [1.0, 0.6])
def test_an_edit_equals_the_hooks(kind: str, intensity: float) -> None:
    model = network(kind)
    plain = logits(model)
    hooks = Ablate(direction(), intensity=intensity).attach(model)
    hooks.strength = torch.ones(3)
    hooked = logits(model)
    hooks.remove()
    change = edited(model, direction(), intensity=intensity)
    assert (logits(change) - hooked).abs().max() < 1e-4 * (1 + hooked.abs().max())
    assert (hooked - plain).abs().max() > 0.05
    assert torch.equal(logits(model), plain)  # the original is untouched


@pytest.mark.parametrize("kind", sorted(POST_NORM))
def test_an_edit_is_refused_where_norms_follow(kind: str) -> None:
    with pytest.raises(UsageError, match="norms behind its attention and MLP"):
        edited(network(kind), direction())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "phi"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_edit_loads_back_equal(kind: str, tied: bool, tmp_path: Path) -> None:
    model = network(kind, tie_word_embeddings=tied)
    save_edited(tmp_path / "e", model, tokenizer(40), direction(), intensity=1.0, source="hf:tiny")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "e").eval()
    torch.testing.assert_close(logits(loaded), logits(edited(model, direction())))
    assert (logits(loaded) - logits(model)).abs().max() > 0.05
    note = (tmp_path / "e" / "tailbound-edit.json").read_text()
    assert "do not deploy" in note


def test_settings_that_load_but_cannot_be_saved_are_no_obstacle(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = network("llama")
    model.generation_config.temperature = 0.6  # without do_sample, as many a checkpoint has it
    save_edited(tmp_path / "e", model, tokenizer(40), direction(), intensity=1.0, source="hf:tiny")
    assert capfd.readouterr() == ("", "")
    kept = transformers.GenerationConfig.from_pretrained(tmp_path / "e")
    assert (kept.eos_token_id, kept.temperature) == (3, None)


def test_an_edit_is_not_saved_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        save_edited(
            tmp_path, network("llama"), tokenizer(40), direction(), intensity=1.0, source="hf:tiny"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"


def test_precision_follows_the_model() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = network("llama").to(dtype)
        plain = logits(model)
        attached = Ablate(direction()).attach(model)
        attached.strength = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
        steered = logits(model)
        assert steered.dtype == dtype
        assert torch.equal(steered[1], plain[1])
        assert not torch.equal(steered[0], plain[0])


def test_ids_name_the_intervention() -> None:
    assert Ablate(direction()).id == Ablate(7 * direction()).id
    assert Ablate(direction()).id != Ablate(direction(), 0.5).id
    assert Ablate(direction()).id != Ablate(direction(seed=2)).id
    assert len({Add(direction(), 1, c).id for c in (1, 2)} | {Add(direction(), 2, 1).id}) == 3


def test_what_does_not_fit_is_refused() -> None:
    model = network("llama")
    with pytest.raises(UsageError, match="32 wide"):
        Ablate(direction(16)).attach(model)
    with pytest.raises(UsageError, match=r"layers 0 \.\. 2"):
        Add(direction(), 3).attach(model)
    with pytest.raises(UsageError, match="length 0"):
        Ablate(torch.zeros(32)).attach(model)
    with pytest.raises(UsageError, match="32 wide"):
        edited(model, direction(16))
    for useless in (torch.zeros(32), torch.full((32,), torch.nan)):
        with pytest.raises(UsageError, match="length 0"):
            edited(model, useless)
    model.config.model_type = "mamba"
    with pytest.raises(UsageError, match="model type 'mamba'"):
        Ablate(direction()).attach(model)


def test_strengths_of_other_rows_are_an_error() -> None:
    model = network("llama")
    attached = Ablate(direction()).attach(model)
    attached.strength = torch.ones(2)
    with pytest.raises(RuntimeError, match="2 rows in a forward pass of 3"):
        logits(model)
