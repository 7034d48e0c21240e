"""Checkpoints as they are met: incomplete, left over, misnamed, with settings of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import (
    EOT,
    Queue,
    local_model,
    network,
    plain_log_prob,
    prompt,
    requests,
    tokenizer,
)

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.huggingface.fingerprint import folder_revision
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.registry import load_target

OPTIONS = SamplingOptions(max_new_tokens=6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    network("llama").save_pretrained(path)
    tokenizer(40).save_pretrained(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "odd")


def _configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _drop_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.down_proj.weight"], weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _own_code(folder: Path) -> None:
    auto = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.Y"}
    _configure(folder, model_type="mine", auto_map=auto)


def _no_tokenizer(folder: Path) -> None:
    for file in (*folder.glob("token*"), *folder.glob("chat*")):
        file.unlink()


def _encoder_decoder(folder: Path) -> None:
    config = transformers.T5Config(vocab_size=40, d_model=8, d_ff=8, num_layers=1, num_heads=1)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)


def _adapter(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")


def _no_default_template(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "chat_template.jinja").rename(folder / "additional_chat_templates" / "rag.jinja")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_weights, "has no weights for model.layers.0.mlp.down_proj.weight and 1 more"),
        (lambda f: _configure(f, intermediate_size=64), "and 8 more of LlamaForCausalLM, which"),
        (lambda f: (f / "model.safetensors").write_text("version https"), "cannot load hf:odd"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot load hf:odd"),
        (lambda f: _configure(f, num_attention_heads=5), "not a multiple of the number"),
        (lambda f: _configure(f, quantization_config={"quant_method": "awq"}), "requires gptq"),
        (_encoder_decoder, "not a model that transformers loads as a causal"),
        (_own_code, "code of its own, which is not run here"),
        (_no_tokenizer, "cannot load hf:odd"),
        (_adapter, "is an adapter, not a model.*--proposal lora:"),
        (_no_default_template, "templates rag, and none is the default"),
    ],
)
def test_what_is_not_a_whole_model_is_refused_in_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(folder)
    capfd.readouterr()
    with pytest.raises(UsageError, match=message) as caught:
        load_target(f"hf:{folder}", OPTIONS)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_left_out_are_told(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.7.extra"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    target: Any = load_target(f"hf:{folder}", OPTIONS)
    assert any("no place for (model.layers.7.extra), which" in line for line in target.notices)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_name_without_a_network_fails_soon_and_in_one_line(tmp_path: Path) -> None:
    code = (
        "from tailbound.core.contract import SamplingOptions as S\n"
        "from tailbound.targets.registry import load_target\n"
        "import time; import transformers; begun = time.monotonic()\n"
        "try: load_target('hf:nobody/nothing', S())\n"
        "except Exception as error: print(f'{type(error).__name__}: {error}')\n"
        "print(time.monotonic() - begun)"
    )
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=True,
    )
    line, seconds = done.stdout.splitlines()
    assert line.startswith("UsageError: cannot load hf:nobody/nothing: http://127.0.0.1:9 cannot")
    assert done.stderr == ""
    assert float(seconds) < 20  # retries of every file took a minute


def test_a_model_in_the_cache_needs_no_network(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "models--org--tiny"
    shutil.copytree(saved, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda *args, **options: int("no network")
    )
    begun = time.monotonic()
    target = load_target("hf:org/tiny", OPTIONS)
    assert time.monotonic() - begun < 20
    assert (target.contract.target, target.contract.revision) == ("hf:org/tiny", "abc")


def test_a_window_that_the_layers_do_not_know_is_left_aside() -> None:
    """A Llama made of a Mistral may keep `sliding_window` in its config."""
    model = network("llama")
    model.config.sliding_window = 8
    target = local_model(model, SamplingOptions(max_new_tokens=20))
    draws = list(target.sample(Queue(requests([prompt(0)], 5)), seed=0))
    ids = target.encoder.encode(prompt(0))
    assert model.config.sliding_window == 8
    np.testing.assert_allclose(
        [draw.log_prob for draw in draws],
        [plain_log_prob(model, ids, draw.token_ids) for draw in draws],
        atol=1e-4,
    )


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe", "GraniteMoe"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_mixtures_of_experts(kind: str, precision: torch.dtype) -> None:
    """The canonical decision is made in float64, which grouped matrix products do not know."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=4,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        eos_token_id=EOT,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    target = local_model(
        model.to(precision), SamplingOptions(max_new_tokens=12), tolerance=2e-3, batch_size=8
    )
    draws = list(target.sample(Queue(requests([prompt(0), prompt(1)], 20)), seed=0))
    assert target.fallback is not None
    assert target.fallback.calls > 0
    for draw in draws:
        ids = target.encoder.encode(prompt(int(draw.prompt_id[1:])))
        assert abs(draw.log_prob - plain_log_prob(model, ids, draw.token_ids)) < 1e-4


def test_frequencies_that_change_with_the_length_bound_the_context() -> None:
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 32,
    }
    model = network("phi3", rope_parameters=rope, original_max_position_embeddings=32)
    target = local_model(model, SamplingOptions(max_new_tokens=20))
    assert any("must fit in 32 tokens" in line for line in target.notices)
    with pytest.raises(UsageError, match="context of 32"):
        target.prompt_tokens([prompt(0, words=20)])
    prompts = [prompt(0, words=1), prompt(1, words=9)]  # the second ends at the very last position
    assert target.prompt_tokens(prompts).max() == 12
    for draw in target.sample(Queue(requests(prompts, 5)), seed=0):
        ids = target.encoder.encode(prompts[int(draw.prompt_id[1:])])
        assert abs(draw.log_prob - plain_log_prob(model, ids, draw.token_ids)) < 1e-4


def test_a_template_that_leaves_words_out_is_refused() -> None:
    deaf = "<bos>{% for m in messages if m.role == 'user' %} {{ m.content }}{% endfor %}"
    target = local_model(network(), SamplingOptions(system="w9"), template=deaf)
    with pytest.raises(UsageError, match="leaves the system message of prompt 'p0' out: use no"):
        target.prompt_tokens([prompt(0)])
    with pytest.raises(UsageError, match=r"leaves the user message of prompt 'p0' out$"):
        local_model(network(), template="<bos> w9").prompt_tokens([prompt(0)])
    changed = "<bos> {{ messages[0].content | replace('w7', 'w8') }}"
    assert local_model(network(), template=changed).encoder.encode(prompt(0)) == (2, 8, 10, 13)


def test_a_template_of_parts_is_given_parts() -> None:
    parts = (
        "<bos>{% for m in messages %} <user>{% for part in m.content %}"
        "{% if part['type'] == 'text' %} {{ part['text'] }}{% endif %}"
        "{% endfor %}{% endfor %} <bot>"
    )
    target = local_model(network(), SamplingOptions(max_new_tokens=6, system="w9"), template=parts)
    assert target.encoder.encode(prompt(0)) == (2, 4, 9, 4, 7, 10, 13, 5)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    model = network(vocabulary=12)
    target = LocalModel(model, tokenizer(40), OPTIONS, name="hf:tiny", revision=None)
    assert target.prompt_tokens([Prompt(id="a", messages=(("user", "w9 w10"),))]).tolist() == [5]
    with pytest.raises(UsageError, match="'b' has the token id 30, and the model reads ids below"):
        target.prompt_tokens([Prompt(id="b", messages=(("user", "w9 w30"),))])


def test_a_stop_text_may_be_a_special_token() -> None:
    base = local_model(network()).contract
    target = local_model(network(), SamplingOptions(max_new_tokens=8, stop=("<user>", "<unk>")))
    # <user> is an ordinary word of this tokenizer, <unk> is special
    assert target.contract.stop_ids == (1, *base.stop_ids)
    with pytest.raises(UsageError, match="holds the special token '<eot>'"):
        local_model(network(), SamplingOptions(stop=("w9 <eot>",)))


def test_stop_ids_that_the_model_does_not_have() -> None:
    model = network()
    model.generation_config.eos_token_id = [-1, 9, 99999]
    assert local_model(model).contract.stop_ids == (EOT, 9)


def test_every_setting_that_changes_the_distribution_is_told() -> None:
    model = network()
    model.generation_config.update(
        suppress_tokens=[5, 6], min_new_tokens=3, stop_strings=["w9"], guidance_scale=1.0
    )
    (notice,) = local_model(model).notices
    assert "asks for min_new_tokens=3, suppress_tokens, stop_strings; not used" in notice


def test_the_strength_of_an_adapter_is_part_of_its_revision(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    before = folder_revision(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 16}')
    assert folder_revision(tmp_path) != before


def test_long_prompts_are_read_without_a_word(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 8}))
    long = Prompt(id="long", messages=(("user", " ".join(["w9"] * 40)),))
    for completion in (False, True):
        options = SamplingOptions(max_new_tokens=6, completion=completion)
        assert load_target(f"hf:{folder}", options).prompt_tokens([long])[0] >= 40
    assert capfd.readouterr() == ("", "")
