"""LoRA adapters: merged into a copy of a model, or beside weights that the copy shares."""

from __future__ import annotations

import copy
import itertools
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.hf_logging import quiet
from tailbound.storage.files import make_folder, write_atomically

CONFIG, SAFE_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHTS = (SAFE_WEIGHTS, "adapter_model.bin")

RANK, ALPHA = 8, 16
"""Of new adapters: the rank of each update of a matrix, and its scale times the rank."""


def check_adapter(folder: Path, name: str) -> None:
    """Raise `UsageError` where `folder`, called `name`, does not hold an adapter's files.

    peft would look for missing ones on the hub.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError(f"{name or '(no folder)'} holds no adapter ({CONFIG} is missing)")
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise UsageError(f"{name} holds no weights of an adapter ({SAFE_WEIGHTS})")


def check_adaptable(model: Any, shown: str) -> None:
    """Raise `UsageError` where no new adapter can be trained for `model`, called `shown`.

    Its weights must not be quantized, and peft must know its linear layers.
    """
    cure = "remove --proposal learned"
    if getattr(model.config, "quantization_config", None) is not None:
        raise UsageError(
            f"the weights of {shown} are quantized, and no adapter can be trained for them: {cure}"
        )
    try:
        new_adapter(model, seed=0)
    except MissingExtraError:
        raise
    except Exception as error:  # peft raises whatever its search for layers meets
        raise UsageError(f"peft cannot adapt {shown} ({_reason(error)}): {cure}") from error


def merged(model: Any, folder: Path, *, name: str) -> Any:
    """A copy of `model` with the adapter in `folder` merged in, in evaluation mode.

    Raises `MissingExtraError` without peft, and `UsageError` where the files are incomplete or
    damaged, the adapter was made for another model, or weights of it are missing.
    """
    check_adapter(folder, name)
    with _peft("a LoRA adapter as proposal"):
        adapted = _read(copy.deepcopy(model), folder, name=name, merge=True)
    return adapted.eval().requires_grad_(False)


def attached(model: Any, folder: Path, *, name: str, trainable: bool = False) -> Any:
    """The adapter in `folder` on a copy of `model` that shares its weights: a peft model.

    Raises as `merged` does.
    """
    check_adapter(folder, name)
    with _peft("--proposal learned"):
        adapted = _read(_sharing(model), folder, name=name, trainable=trainable)
    return adapted if trainable else adapted.eval().requires_grad_(False)


def new_adapter(model: Any, *, seed: int) -> Any:
    """A new adapter of all linear layers but the head, on a copy of `model` that shares weights.

    It changes nothing before it is trained: the second factor of each update is 0, the first one is
    a function of `seed`. Raises `MissingExtraError` without peft.
    """
    with _peft("--proposal learned") as peft:
        import torch

        config = peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return peft.get_peft_model(_sharing(model), config)


def save_adapter(adapted: Any, folder: Path) -> None:
    """Write a peft model's adapter to `folder`, the same bytes for the same weights.

    Raises `LedgerError` where the system refuses.
    """
    from safetensors.torch import save

    with _peft("--proposal learned") as peft:
        state = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
        config = adapted.peft_config["default"].to_dict()
    # the name of the base model may be a path of this machine
    config |= {"inference_mode": True, "base_model_name_or_path": None}
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    make_folder(folder)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    write_atomically(folder / SAFE_WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_atomically(folder / CONFIG, json.dumps(plain, indent=2, sort_keys=True) + "\n")


@contextmanager
def _peft(feature: str) -> Iterator[Any]:
    """peft, without what it prints and warns of."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import peft
        except ImportError as error:
            raise MissingExtraError(feature, "lora") from error
        yield peft


def _sharing(model: Any) -> Any:
    """A copy of the modules of `model`; its parameters and buffers are the same tensors."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _read(
    base: Any, folder: Path, *, name: str, trainable: bool = False, merge: bool = False
) -> Any:
    """`base` with the adapter in `folder`, which is called `name` in messages."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result: Any = PeftModel.from_pretrained(base, folder, is_trainable=trainable)
            if merge:
                result = result.merge_and_unload()
    except Exception as error:  # peft, safetensors, torch and json raise their own
        raise UsageError(f"the adapter {name} does not fit the target: {_reason(error)}") from error
    for warning in said:  # peft's only word about weights that it made up
        if found := re.search(r"missing adapter keys.*?\['([^']*)'", str(warning.message)):
            raise UsageError(
                f"the adapter {name} has no weights for {found[1]}, which would be random: save "
                "the whole adapter"
            )
    return result


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
