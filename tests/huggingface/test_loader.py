"""Checkpoints from people whom one does not know: no code of theirs runs, nothing is made up."""

from __future__ import annotations

import builtins
import contextlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import local_model, network, tokenizer

import tailbound
from tailbound.core.contract import SamplingOptions
from tailbound.errors import UsageError
from tailbound.huggingface.sentence_encoders import load_sentence_encoder
from tailbound.judges import load_judge
from tailbound.predictors import EmbeddingFeatures, FinetunedFeatures
from tailbound.targets.registry import load_target
from tailbound.workflows.risk import make_proposal

OPTIONS = SamplingOptions(max_new_tokens=4)
JUDGE = load_judge("regex:w9")


def propose(spec: str, folder: Path) -> Any:
    target = local_model(network("llama"), OPTIONS)
    return make_proposal([spec], target, JUDGE, [], folder=folder.parent / "run")


USERS: dict[str, Callable[[Path], Any]] = {
    "target": lambda folder: load_target(f"hf:{folder}", OPTIONS),
    "proposal": lambda folder: propose(f"model:{folder}", folder),
    "classifier": lambda folder: load_judge(f"classifier:{folder}?label=LABEL_1"),
    "guard": lambda folder: load_judge(f"guard:{folder}?format=llama-guard"),
    "finetune": lambda folder: FinetunedFeatures(str(folder)),
    "embeddings": lambda folder: EmbeddingFeatures(str(folder)),
}


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> str:
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    network("llama").save_pretrained(tmp_path / "tiny")
    tokenizer(40).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def own_code(folder: Path) -> Path:
    """Give the checkpoint code of its own; returns the file that it leaves where it runs."""
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass X: pass\n")
    kinds = (
        "AutoConfig",
        "AutoModel",
        "AutoModelForCausalLM",
        "AutoModelForSequenceClassification",
    )
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": dict.fromkeys(kinds, "own.X")}
    (folder / "config.json").write_text(json.dumps(config))
    return ran


@pytest.mark.parametrize("user", USERS)
def test_code_that_comes_with_a_checkpoint_is_neither_run_nor_asked_about(
    folder: Path, user: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = own_code(folder)
    capfd.readouterr()
    with pytest.raises(UsageError, match="comes with code of its own, which is not run") as caught:
        USERS[user](folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    assert capfd.readouterr() == ("", "")


def test_the_tokenizers_own_code_is_not_run_either(folder: Path) -> None:
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass X: pass\n")
    path = folder / "tokenizer_config.json"
    known = json.loads(path.read_text())
    known |= {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": [None, "own.X"]}}
    path.write_text(json.dumps(known))
    with contextlib.suppress(UsageError):  # refused, or read by the library's own class
        load_target(f"hf:{folder}", OPTIONS)
    assert not ran.exists()


def test_the_modules_of_a_sentence_encoder_are_not_run(folder: Path) -> None:
    ran = folder.parent / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass X: pass\n")
    module = {"idx": 0, "name": "0", "path": "", "type": "own.X"}
    (folder / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(UsageError, match="comes with code of its own"):
        load_sentence_encoder(str(folder), needed_by="a test")
    assert not ran.exists()


class _Runs:
    """A pickle that writes a file where it is read as more than weights."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


def pickled(file: Path) -> Path:
    ran = file.parent.parent / "ran"
    torch.save({"model.embed_tokens.weight": _Runs(ran)}, file, pickle_module=pickle)
    return ran


@pytest.mark.parametrize("user", USERS)
def test_a_pickle_is_read_as_weights_alone(folder: Path, user: str) -> None:
    (folder / "model.safetensors").unlink()
    ran = pickled(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot load") as caught:
        USERS[user](folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()


def adapter(folder: Path) -> Path:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(network("llama"), config).save_pretrained(folder)
    return folder


peft_warns = pytest.mark.filterwarnings(
    "ignore::FutureWarning:peft", "ignore:.*is_gradient_check.*"
)


@peft_warns
def test_the_pickle_of_an_adapter_is_read_as_weights_alone(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    (folder / "adapter_model.safetensors").unlink()
    ran = pickled(folder / "adapter_model.bin")
    with pytest.raises(UsageError, match=r"adapter .* does not fit the target") as caught:
        propose(f"lora:{folder}", folder)
    assert "\n" not in str(caught.value)
    assert not ran.exists()


@peft_warns
def test_an_adapter_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    weights.pop(next(name for name in weights if "layers.0" in name and "lora_A" in name))
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"no weights for .*layers\.0.*lora_A.*random"):
        propose(f"lora:{folder}", folder)


@pytest.mark.parametrize("user", ["finetune", "embeddings"])
def test_an_encoder_without_all_its_weights_is_refused(
    folder: Path, user: str, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.0.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    with pytest.raises(UsageError, match=r"no weights for .*layers\.0\.mlp\.down_proj\.weight"):
        USERS[user](folder)
    assert capfd.readouterr() == ("", "")


def test_a_finetuned_encoder_may_have_a_new_head_of_another_size(folder: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=5)
    made = transformers.LlamaForSequenceClassification(config)
    made.save_pretrained(folder)
    found = FinetunedFeatures(str(folder))
    assert found.model == str(folder)


@pytest.mark.parametrize("user", ["classifier", "guard", "target", "proposal"])
def test_an_adapter_is_not_loaded_over_a_base_that_it_names(folder: Path, user: str) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(UsageError, match="is an adapter, not a model"):
        USERS[user](folder)


def test_nothing_else_in_the_package_reads_checkpoints() -> None:
    root = Path(tailbound.__file__).parent
    reads = re.compile(r"\.from_pretrained\(|SentenceTransformer\(|torch\.load\(|pipeline\(")
    found = {
        str(file.relative_to(root))
        for file in root.rglob("*.py")
        if reads.search(file.read_text(encoding="utf-8")) and file.parent.name != "huggingface"
    }
    assert found == set()
