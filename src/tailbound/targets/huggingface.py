"""The target `hf:NAME`: a Hugging Face model, from the hub or a folder, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.extras import require
from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.libraries import import_torch
from tailbound.huggingface.places import DTYPES, find_model
from tailbound.targets.provider import TargetProvider

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "meta")


def load(
    name: str,
    options: SamplingOptions,
    *,
    batch_size: int = 256,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    **engine: Any,
) -> LocalModel:
    """The model `name`, a hub id or a local folder, with its sampling contract fixed.

    `dtype` "auto" is the checkpoint's own precision, `device` "auto" is CUDA where there is one.
    `revision` is a branch, tag or commit of the hub; a folder's revision is a hash of its files.
    `engine` goes to `LocalModel`. Raises `MissingExtraError` without torch and transformers, and
    `UsageError` for what cannot be loaded.
    """
    folder = _checked(name, dtype, device, revision)
    return load_checkpoint(
        folder if folder is not None else name,
        options,
        spec=f"hf:{folder.resolve().name if folder is not None else name}",
        batch_size=batch_size,
        dtype=dtype,
        device=device,
        revision=revision,
        **engine,
    )


def check(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    **engine: Any,
) -> None:
    """Raise `UsageError` for what `load` would refuse before it reads a model; loads nothing."""
    _checked(name, dtype, device, revision)
    require("sampling a model in process", "hf")


def _checked(name: str, dtype: str, device: str, revision: str | None) -> Path | None:
    """The local folder that `name` means, if it means one."""
    if not name:
        raise UsageError("hf: needs a model: hf:org/name from the hub, or hf:./folder")
    check_engine(dtype=dtype, device=device)
    return find_model(name, revision=revision)


def check_engine(*, dtype: str, device: str) -> None:
    """Raise `UsageError` for a precision or a kind of device that does not exist; needs no torch.

    Whether a device is there, torch alone knows.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    kind, colon, number = device.partition(":")
    if kind not in DEVICES or (colon and not number.isdecimal()):
        raise UsageError(f"unknown device {device!r}: use cpu, cuda or cuda:N")


def load_checkpoint(
    source: Path | str,
    options: SamplingOptions,
    *,
    spec: str,
    batch_size: int = 256,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    **engine: Any,
) -> LocalModel:
    """The checkpoint in the folder `source`, or of that name on the hub, called `spec`."""
    needed_by = "sampling a model in process"
    try:
        import_torch()
        from tailbound.huggingface import checkpoints
        from tailbound.huggingface.places import find_device
        from tailbound.targets.decoding.model import LocalModel

        place = find_device(device)
    except ImportError as error:
        raise MissingExtraError(needed_by, "hf") from error
    read = checkpoints.load_checkpoint(
        source, shown=spec, needed_by=needed_by, revision=revision, dtype=dtype, device=place
    )
    return LocalModel(
        read.model,
        read.tokenizer,
        options,
        name=spec,
        revision=read.revision,
        batch_size=batch_size,
        notices=read.notices,
        **engine,
    )


provider = TargetProvider(
    load=load,
    check=check,
    options=frozenset(
        {"batch_size", "dtype", "device", "revision", "tolerance", "prompt_cache_bytes"}
    ),
    white_box=True,
    description="hf:NAME or hf:./folder: a Hugging Face causal LM in this process",
)
