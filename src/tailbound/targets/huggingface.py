"""The target `hf:NAME`: a Hugging Face model, from the hub or a folder, in this process.

hf:org/model                       a model on the hub
hf:./folder                        a saved model
hf:./model.gguf                    a GGUF file, dequantized
hf:./folder?gguf=model.gguf        the same, or one of several files of a model on the hub
hf:./folder?chat_template=FILE     under the chat template in FILE (Jinja)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.extras import require
from tailbound.core.spec_options import SpecOptions
from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.fingerprint import checkpoint_revision
from tailbound.huggingface.instructions import example_instructions
from tailbound.huggingface.libraries import import_torch
from tailbound.huggingface.places import DTYPES, find_folder, find_gguf, find_model
from tailbound.targets.provider import TargetProvider

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu", "meta")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a model lies and what it is called in a contract; `gguf` is a file in `source`."""

    source: Path | str
    spec: str
    gguf: str | None = None
    chat_template: str | None = None


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
    """The model `name`, a hub id, a local folder or a GGUF file, with its contract fixed.

    Behind a `?`, `gguf=FILE` names a GGUF file in the folder or on the hub, and
    `chat_template=FILE` a file of this machine with the template to use in place of the model's.
    `dtype` "auto" is the checkpoint's own precision, `device` "auto" is CUDA where there is one.
    `revision` is a branch, tag or commit of the hub; a folder's revision is a hash of its files.
    `engine` goes to `LocalModel`. Raises `MissingExtraError` without torch and transformers, and
    `UsageError` for what cannot be loaded.
    """
    place = _checked(name, dtype, device, revision)
    return load_checkpoint(
        place.source,
        options,
        spec=place.spec,
        gguf=place.gguf,
        chat_template=place.chat_template,
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


def local_revision(name: str) -> str | None:
    """The revision that the model `name` has now, where it lies on this machine; None elsewhere.

    Nothing is loaded. Raises `UsageError` for a name that means nothing, or no longer anything.
    """
    options = SpecOptions("hf", name, kind="target")
    place = _found(options.name, options.text("gguf"), None)
    if not isinstance(place.source, Path):
        return None
    return checkpoint_revision(place.source, place.gguf)


def _checked(name: str, dtype: str, device: str, revision: str | None) -> _Place:
    """What `name` means; raises `UsageError` for what can be seen to be wrong with it."""
    options = SpecOptions("hf", name, kind="target")
    inside, template = options.text("gguf"), options.text("chat_template")
    options.done()
    name = options.name
    if not name:
        raise UsageError("hf: needs a model: hf:org/name from the hub, or hf:./folder")
    check_engine(dtype=dtype, device=device)
    place = _found(name, inside, revision)
    if place.gguf is not None:
        require("reading a GGUF file", "gguf")
    return place if template is None else replace(place, chat_template=_read(template))


def _found(name: str, inside: str | None, revision: str | None) -> _Place:
    """The checkpoint of that name; `inside` is a GGUF file in it."""
    path = Path(name).expanduser()
    if inside is not None and not path.is_dir():
        if path.is_file():
            raise UsageError(f"{name} is a file already: remove ?gguf={inside}")
        find_folder(name)  # a folder that is not there
        return _Place(source=name, spec=f"hf:{name}?gguf={inside}", gguf=inside)
    file = find_gguf(name if inside is None else str(path / inside), revision=revision)
    if file is not None:
        return _Place(source=file[0], spec=f"hf:{file[1]}", gguf=file[1])
    if inside is not None:
        raise UsageError(f"?gguf={inside} must name a file that ends in .gguf")
    folder = find_model(name, revision=revision)
    if folder is not None:
        return _Place(source=folder, spec=f"hf:{folder.resolve().name}")
    return _Place(source=name, spec=f"hf:{name}")


def _read(template: str) -> str:
    """The chat template in a file of that name."""
    try:
        text = Path(template).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"the chat template {template} cannot be read: {reason}") from error
    if not text.strip():
        raise UsageError(f"the chat template {template} is empty")
    return text


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
    gguf: str | None = None,
    chat_template: str | None = None,
    batch_size: int = 256,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    **engine: Any,
) -> LocalModel:
    """The checkpoint in the folder `source`, or of that name on the hub, called `spec`.

    `gguf` names a GGUF file in it, `chat_template` is the template to use in place of its own.
    """
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
        source,
        shown=spec,
        needed_by=needed_by,
        revision=revision,
        dtype=dtype,
        device=place,
        gguf=gguf,
    )
    if chat_template is not None:
        read.tokenizer.chat_template = chat_template
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
    description="hf:NAME, hf:./folder or hf:./FILE.gguf: a Hugging Face causal LM in this process",
    local_revision=local_revision,
    example_instructions=example_instructions,
)
