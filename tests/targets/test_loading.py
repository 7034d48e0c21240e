"""Names, folders, options and what is said when they are wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import Queue, local_model, network, prompt, requests, tokenizer

from tailbound.core.contract import SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface import fingerprint
from tailbound.targets import Target, WhiteBox
from tailbound.targets.registry import list_targets, load_target

OPTIONS = SamplingOptions(max_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    network("qwen3").save_pretrained(path)
    tokenizer(40).save_pretrained(path)
    return path


def test_a_folder_becomes_a_target(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target(f"hf:{folder}", OPTIONS, batch_size=4, dtype="float32", device="cpu")
    assert isinstance(target, WhiteBox)
    assert target.reproducible == "draw"
    assert target.contract.target == "hf:tiny"  # nothing of this machine in the contract
    assert target.contract.precision == "float32"
    assert target.contract.template is not None
    assert str(target.contract.revision).startswith("sha256:")
    draws = list(target.sample(Queue(requests([prompt(0)], 5)), seed=0))
    assert len(draws) == 5
    monkeypatch.chdir(folder.parent)
    again = load_target("hf:./tiny", OPTIONS, batch_size=99)
    assert again.contract == target.contract
    repeated = list(again.sample(Queue(requests([prompt(0)], 5)), seed=0))
    assert {d.index: d.token_ids for d in draws} == {d.index: d.token_ids for d in repeated}


def test_double_precision(folder: Path) -> None:
    target = load_target(f"hf:{folder}", OPTIONS, dtype="float64")
    assert target.contract.precision == "float64"
    assert target.reproducible == "draw"
    assert len(list(target.sample(Queue(requests([prompt(0)], 5)), seed=0))) == 5


def test_revision_of_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("about")
    assert fingerprint.folder_revision(copy) == fingerprint.folder_revision(folder)
    weights = copy / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert fingerprint.folder_revision(copy) != fingerprint.folder_revision(folder)
    # large files by head and tail
    monkeypatch.setattr(fingerprint, "WHOLE_FILE", 100)
    monkeypatch.setattr(fingerprint, "SAMPLE", 50)
    assert fingerprint.folder_revision(copy) != fingerprint.folder_revision(folder)


def test_contract_tells_what_defines_the_distribution(folder: Path) -> None:
    base = load_target(f"hf:{folder}", OPTIONS).contract
    for options in (
        SamplingOptions(max_new_tokens=7),
        SamplingOptions(max_new_tokens=6, temperature=0.5),
        SamplingOptions(max_new_tokens=6, top_p=0.5),
        SamplingOptions(max_new_tokens=6, top_k=5),
        SamplingOptions(max_new_tokens=6, system="w9"),
        SamplingOptions(max_new_tokens=6, completion=True),
        SamplingOptions(max_new_tokens=6, stop=("w9",)),
    ):
        assert load_target(f"hf:{folder}", options).contract.digest != base.digest
    model = network()
    assert local_model(model, batch_size=3).contract.digest == local_model(model).contract.digest


@pytest.mark.parametrize(
    ("spec", "engine", "message"),
    [
        ("hf:./nowhere", {}, "no such folder: ./nowhere"),
        ("hf:", {}, "needs a model"),
        ("hf:x", {"dtype": "int3"}, "unknown dtype 'int3'"),
        ("dmeo", {}, "did you mean 'demo'"),
        ("meta-llama/Llama-3.1-8B", {}, "write hf:meta-llama/Llama-3.1-8B"),
        ("demo:x", {}, "takes no name"),
        ("demo", {"revision": "main"}, "--revision does not apply to demo targets"),
    ],
)
def test_wrong_specs(spec: str, engine: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_target(spec, OPTIONS, **engine)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "engine", "message"),
    [
        ({}, {"revision": "main"}, "remove the revision"),
        ({}, {"device": "toaster"}, "unknown device 'toaster'"),
        ({}, {"device": "meta"}, "computes nothing"),
        ({}, {"batch_size": 0}, "batch-size must be at least 1"),
        ({"top_k": 41}, {}, "more than the vocabulary of 40"),
    ],
)
def test_wrong_options(
    folder: Path, options: dict[str, Any], engine: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_target(f"hf:{folder}", SamplingOptions(max_new_tokens=6, **options), **engine)


def test_missing_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="not available here: use cpu"):
        load_target(f"hf:{folder}", OPTIONS, device="cuda")


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_target(f"hf:{tmp_path}", OPTIONS)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot load hf:copy") as caught:
        load_target(f"hf:{copy}", OPTIONS)
    assert "\n" not in str(caught.value)


def test_no_chat_template(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    tokenizer(40, template=None).save_pretrained(copy)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="use --completion"):
        load_target(f"hf:{copy}", OPTIONS)
    target = load_target(f"hf:{copy}", SamplingOptions(max_new_tokens=6, completion=True))
    assert target.contract.template is None
    assert target.prompt_tokens([prompt(0), prompt(1, words=5)]).tolist() == [3, 5]


def test_prompts_that_cannot_be_encoded() -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=100))
    with pytest.raises(UsageError, match=r"'p0' has 30 tokens.*context of 128.*shorten"):
        target.prompt_tokens([prompt(0, words=27)])
    raw = local_model(network(), SamplingOptions(max_new_tokens=9, completion=True))
    with pytest.raises(UsageError, match="'e' has no tokens"):
        raw.prompt_tokens([Prompt(id="e", messages=(("user", ""),))])
    chat = Prompt(id="c", messages=(("user", "w8"), ("assistant", "w9"), ("user", "w7")))
    with pytest.raises(UsageError, match="remove --completion"):
        raw.prompt_tokens([chat])
    odd = Prompt(id="o", messages=(("user", "w8"), ("tool", "w9")))
    assert local_model(network()).prompt_tokens([chat]).tolist() == [8]
    steered = local_model(network(), SamplingOptions(max_new_tokens=9, system="w9"))
    with pytest.raises(UsageError, match="remove --system"):
        steered.prompt_tokens([Prompt(id="s", messages=(("system", "w8"), ("user", "w8")))])
    complaint = "{{ raise_exception('roles\\nmust alternate') }}"
    strict = local_model(network(), template=complaint)
    with pytest.raises(UsageError, match=r"refuses prompt 'o': roles$"):
        strict.prompt_tokens([odd])


def test_chat_encoding() -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=9, system="w9"))
    assert target.encoder.encode(prompt(0)) == (2, 6, 9, 4, 7, 10, 13, 5)
    # a chat that ends with the assistant's words is continued
    begun = Prompt(id="b", messages=(("user", "w8"), ("assistant", "w10")))
    assert target.encoder.encode(begun) == (2, 6, 9, 4, 8, 5, 10)


def test_a_prompt_does_not_change_from_day_to_day() -> None:
    template = "\n<bos> {{ messages[0].content }} "
    template += "{{ 'w8' if strftime_now('%d %B %Y') == '26 July 2024' else 'w9' }}"
    target = local_model(network(), template=template + "{% if date_string %} w10{% endif %}")
    assert target.encoder.encode(prompt(0, words=1)) == (2, 7, 8, 10)


def test_notice_of_other_settings() -> None:
    model = network()
    assert local_model(model).notices == ()
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, top_k=None)
    (notice,) = local_model(model).notices
    assert "temperature=0.6, top_p=0.9" in notice
    same = SamplingOptions(temperature=0.6, top_p=0.9)
    assert local_model(model, same).notices == ()


def test_wrong_responses_are_not_scored() -> None:
    target = local_model(network())
    with pytest.raises(UsageError, match="response 1 is empty"):
        target.score(prompt(0), [(8,), ()])
    with pytest.raises(UsageError, match="outside the model's 40"):
        target.score(prompt(0), [(40,)])
    assert target.score(prompt(0), []).shape == (0,)
    assert target.features([]).shape == (0, 64)
    assert target.prompt_tokens([]).shape == (0,)


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"tailbound\[hf\]"):
        load_target("hf:x/y", OPTIONS)


def test_registry_is_light_and_lists_what_is_built_in() -> None:
    assert {"demo", "hf"} <= set(list_targets())
    code = (
        "import sys, json, tailbound.targets.registry as r, tailbound.targets.huggingface;"
        "import tailbound.demo.target; r.list_targets();"
        "print(json.dumps([m for m in ('torch', 'transformers') if m in sys.modules]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(found.stdout) == []


def test_scores_do_not_depend_on_company() -> None:
    target = local_model(network(), SamplingOptions(max_new_tokens=20))
    draws = list(target.sample(Queue(requests([prompt(0)], 40)), seed=0))
    together = target.score(prompt(0), [d.token_ids for d in draws])
    alone = [target.score(prompt(0), [d.token_ids])[0] for d in draws]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_it_is_a_target() -> None:
    def accepts(target: Target) -> str:
        return target.contract.digest

    assert len(accepts(local_model(network()))) == 16
