"""GGUF files as targets: what is read, what names them, what is said of wrong ones."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from tiny_models import Queue, prompt, requests

from endpoint import real_models
from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, UsageError
from tailbound.targets.decoding.model import LocalModel
from tailbound.targets.registry import check_target, load_target

OPTIONS = SamplingOptions(max_new_tokens=6)
HELLO = Prompt(id="h", messages=(("user", "hello"),))


def write_gguf(path: Path, template: str = real_models.TEMPLATE, **how: Any) -> None:
    real_models.write_gguf(path, template, merged=True, **how)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_gguf(path)
    return path


def load(spec: str, options: SamplingOptions = OPTIONS, **engine: Any) -> LocalModel:
    target = load_target(spec, options, **engine)
    assert isinstance(target, LocalModel)
    return target


def test_a_file_is_read_with_its_weights_tokenizer_and_template(file: Path) -> None:
    target = load(f"hf:{file}", device="cpu")
    assert target.contract.target == "hf:tiny.gguf"  # nothing of this machine in the contract
    assert target.contract.precision == "float32"
    text = target.tokenizer.decode(target.encoder.encode(HELLO))
    assert text == "user: hello\nassistant: "
    # the weights are those of the file
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    read = target.model.get_input_embeddings().weight.numpy()
    np.testing.assert_array_equal(read, np.asarray(stored["token_embd.weight"].data))
    assert len(list(target.sample(Queue(requests([HELLO], 3)), seed=0))) == 3


def test_a_quantized_file_is_dequantized(file: Path, tmp_path: Path) -> None:
    """Q8_0: within half a step of its block, which is a 127th of its largest in fp16."""
    small = tmp_path / "small.gguf"
    write_gguf(small, quantize=True)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(small).tensors}
    assert stored["blk.0.ffn_down.weight"].tensor_type == gguf.GGMLQuantizationType.Q8_0
    kept, plain = load(f"hf:{small}").model, load(f"hf:{file}").model
    for name, wanted in plain.named_parameters():
        found = kept.get_parameter(name)
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() <= wanted.abs().max() * (1 / 254 + 2**-11)
    assert not torch.equal(
        kept.get_parameter("model.layers.0.mlp.down_proj.weight"),
        plain.get_parameter("model.layers.0.mlp.down_proj.weight"),
    )


def test_the_revision_is_that_of_the_content(file: Path, tmp_path: Path) -> None:
    contract = load(f"hf:{file}").contract
    shutil.copy(file, tmp_path / "other.gguf")
    (tmp_path / "README.md").write_text("about")
    other = load(f"hf:{tmp_path / 'other.gguf'}").contract
    assert str(contract.revision).startswith("sha256:")
    assert other.revision == contract.revision
    changed = bytearray((tmp_path / "other.gguf").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "other.gguf").write_bytes(changed)
    assert load(f"hf:{tmp_path / 'other.gguf'}").contract.revision != contract.revision


def test_a_file_of_a_folder_is_the_same_target(file: Path) -> None:
    named = load(f"hf:{file.parent}?gguf={file.name}")
    assert named.contract == load(f"hf:{file}").contract


def test_another_chat_template_takes_the_place_of_the_models_own(
    file: Path, tmp_path: Path
) -> None:
    template = tmp_path / "short.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}{% endfor %}!")
    target = load(f"hf:{file}?chat_template={template}")
    assert target.tokenizer.decode(target.encoder.encode(HELLO)) == "hello!"
    plain = load(f"hf:{file}").contract
    assert target.contract.template != plain.template
    assert target.contract.digest != plain.digest
    assert target.contract.revision == plain.revision


def test_a_file_without_a_template_asks_for_one(tmp_path: Path) -> None:
    bare, template = tmp_path / "bare.gguf", tmp_path / "own.jinja"
    write_gguf(bare, template="")
    template.write_text(real_models.TEMPLATE)
    with pytest.raises(UsageError, match=r"no chat template.*chat_template=FILE"):
        load(f"hf:{bare}")
    assert load(f"hf:{bare}?chat_template={template}").contract.template is not None
    load(f"hf:{bare}", SamplingOptions(max_new_tokens=6, completion=True))


def test_an_edited_copy_is_saved_as_a_plain_checkpoint(file: Path, tmp_path: Path) -> None:
    from tailbound.steering import save_edited

    target = load(f"hf:{file}")
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    save_edited(
        tmp_path / "e", target.model, target.tokenizer, direction, intensity=1.0, source="hf:x"
    )
    edited = load(f"hf:{tmp_path / 'e'}")
    assert edited.encoder.encode(HELLO) == target.encoder.encode(HELLO)


def write_other(path: Path, architecture: str) -> None:
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(512)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def refused(spec: str, **engine: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_target(spec, OPTIONS, **engine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_with_a_file_is_one_line(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:2000])
    write_other(tmp_path / "odd.gguf", "clip")
    write_gguf(tmp_path / "lacking.gguf", without="blk.1.ffn_up.weight")
    capfd.readouterr()
    assert "no such file: nowhere.gguf" in refused("hf:nowhere.gguf")
    assert "does not begin with the letters GGUF" in refused(f"hf:{tmp_path / 'text.gguf'}")
    assert "cannot load hf:cut.gguf" in refused(f"hf:{tmp_path / 'cut.gguf'}")
    said = refused(f"hf:{tmp_path / 'odd.gguf'}")
    assert "not a GGUF file that transformers reads" in said
    assert "clip" in said
    said = refused(f"hf:{tmp_path / 'lacking.gguf'}")
    assert "no weights for model.layers.1.mlp.up_proj.weight" in said
    assert "which would be random" in said
    assert capfd.readouterr() == ("", "")


def test_options_that_do_not_fit_are_refused_before_anything_is_read(
    file: Path, tmp_path: Path
) -> None:
    for spec, message in {
        f"hf:{file}?gguf=x.gguf": "is a file already",
        f"hf:{file.parent}?gguf=x.gguf": "no such file",
        f"hf:{file.parent}?gguf=x.bin": "must name a file that ends in .gguf",
        f"hf:{file}?chat_template=nowhere": "chat template nowhere cannot be read",
        f"hf:{file}?template=x": "unknown option 'template': known are chat_template, gguf",
        "hf:./nowhere?gguf=x.gguf": "no such folder: ./nowhere",
        "hf:?gguf=x.gguf": "needs a model",
    }.items():
        with pytest.raises(UsageError) as caught:
            check_target(spec)
        assert message in str(caught.value)
        assert message in refused(spec)
    assert "no revisions" in refused(f"hf:{file}", revision="main")


def test_without_the_package_the_extra_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "tailbound.core.extras.find_spec", lambda name: None if name == "gguf" else find(name)
    )
    with pytest.raises(MissingExtraError, match=r"tailbound\[gguf\]") as caught:
        check_target(f"hf:{file}")
    assert "\n" not in str(caught.value)


def test_a_file_on_the_hub_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract names the file: a commit of the hub holds several models."""
    asked: dict[str, Any] = {}

    def read(source: Any, **given: Any) -> None:
        asked.update(given, source=source)
        raise UsageError("asked")

    monkeypatch.setattr("tailbound.huggingface.checkpoints.load_checkpoint", read)
    with pytest.raises(UsageError, match="asked"):
        load_target("hf:org/model-GGUF?gguf=q4.gguf", OPTIONS, revision="main")
    assert asked["source"] == "org/model-GGUF"
    assert asked["gguf"] == "q4.gguf"
    assert asked["shown"] == "hf:org/model-GGUF?gguf=q4.gguf"
    assert asked["revision"] == "main"


def test_models_that_are_no_gguf_files_are_loaded_as_before(file: Path, tmp_path: Path) -> None:
    model = load(f"hf:{file}")
    model.model.save_pretrained(tmp_path / "plain")
    model.tokenizer.save_pretrained(tmp_path / "plain")
    plain = load(f"hf:{tmp_path / 'plain'}")
    assert plain.contract.target == "hf:plain"
    assert plain.encoder.encode(HELLO) == model.encoder.encode(HELLO)
    assert isinstance(plain.model, transformers.LlamaForCausalLM)
    responses = [(9, 10, 11), (12,)]
    np.testing.assert_allclose(
        plain.score(HELLO, responses), model.score(HELLO, responses), atol=1e-6
    )
    assert prompt(0).id == "p0"
