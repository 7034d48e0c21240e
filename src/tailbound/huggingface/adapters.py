"""LoRA adapters: a copy of a model with an adapter merged into its weights."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.hf_logging import quiet

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def check_adapter(folder: Path, name: str) -> None:
    """Raise `UsageError` where `folder`, called `name`, does not hold an adapter's files.

    peft would look for missing ones on the hub.
    """
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{name or '(no folder)'} holds no adapter (adapter_config.json is missing)"
        )
    if not any((folder / file).is_file() for file in WEIGHTS):
        raise UsageError(f"{name} holds no weights of an adapter ({WEIGHTS[0]})")


def merged(model: Any, folder: Path, *, name: str) -> Any:
    """A copy of `model` with the adapter in `folder` merged in, in evaluation mode.

    Raises `MissingExtraError` without peft, and `UsageError` where the files are incomplete or
    damaged, the adapter was made for another model, or weights of it are missing.
    """
    check_adapter(folder, name)
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("a LoRA adapter as proposal", "lora") from error
    base = copy.deepcopy(model)
    try:
        with quiet(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result: Any = PeftModel.from_pretrained(base, folder).merge_and_unload()
    except Exception as error:  # peft, safetensors, torch and json raise their own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UsageError(f"the adapter {name} does not fit the target: {reason}") from error
    for warning in said:  # peft's only word about weights that it made up
        if found := re.search(r"missing adapter keys.*?\['([^']*)'", str(warning.message)):
            raise UsageError(
                f"the adapter {name} has no weights for {found[1]}, which would be random: save "
                "the whole adapter"
            )
    return result.eval().requires_grad_(False)
