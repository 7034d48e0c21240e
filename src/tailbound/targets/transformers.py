"""The target `hf:NAME`: a Hugging Face model, from the hub or a folder, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.contract import SamplingOptions
from tailbound.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


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
    if not name:
        raise UsageError("hf: needs a model: hf:org/name from the hub, or hf:./folder")
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}: use one of {', '.join(DTYPES)}")
    folder = _folder(name)
    if folder is not None and revision is not None:
        raise UsageError(f"{name} is a local folder, which has no revisions: drop --revision")
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
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("sampling a model in process", "hf") from error
    from tailbound.targets.checkpoint import read_checkpoint
    from tailbound.targets.decoding.identity import folder_revision
    from tailbound.targets.decoding.model import LocalModel

    read = read_checkpoint(
        source, shown=spec, revision=revision, dtype=dtype, device=_device(torch, device)
    )
    return LocalModel(
        read.model,
        read.tokenizer,
        options,
        name=spec,
        revision=folder_revision(source) if isinstance(source, Path) else read.commit or revision,
        batch_size=batch_size,
        notices=read.notices,
        **engine,
    )


def _folder(name: str) -> Path | None:
    """The local folder that `name` means, None for a name on the hub."""
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file():
            raise UsageError(
                f"{name} is an adapter, not a model: merge it into its base and save that, or use "
                f"it as --proposal lora:{name}"
            )
        if not (path / "config.json").is_file():
            raise UsageError(f"{name} has no config.json: give the folder of a saved model")
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"no such folder: {name}")
    return None


def _device(torch: Any, device: str) -> Any:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}: use cpu, cuda or cuda:N") from error
    if place.type == "meta":  # it holds shapes and no numbers
        raise UsageError("device 'meta' computes nothing: use --device cpu or cuda")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} is not available here: use --device cpu")
    return place
