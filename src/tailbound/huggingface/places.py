"""Where a checkpoint lies: a folder, the hub, the hub's cache; and the device it goes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.huggingface.libraries import import_torch

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")

REACH_SECONDS = 10.0
"""How long the hub may take to answer at all."""


def find_folder(name: str, *, who: str = "") -> Path | None:
    """The folder that `name` means, None for a name on the hub.

    `who`, such as "guard judge: ", begins the message of a `UsageError`.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise UsageError(f"{who}{name} is a file: give the folder of a saved model")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{who}no such folder: {name}")
    return None


def find_model(name: str, *, revision: str | None = None, who: str = "") -> Path | None:
    """`find_folder` for a saved model: the folder holds a config.json, and has no revisions."""
    folder = find_folder(name, who=who)
    if folder is None:
        return None
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{who}{name} is an adapter, not a model: merge it into its base and save that, or use "
            f"it as --proposal lora:{name}"
        )
    if not (folder / "config.json").is_file():
        raise UsageError(f"{who}{name} has no config.json: give the folder of a saved model")
    if revision is not None:
        raise UsageError(
            f"{who}{name} is a local folder, which has no revisions: remove the revision"
        )
    return folder


GGUF_MAGIC = b"GGUF"


def find_gguf(name: str, *, revision: str | None = None) -> tuple[Path, str] | None:
    """The folder and the file name of the GGUF file `name`, None where it is no file of that kind.

    Raises `UsageError` for a file called .gguf that is missing, or does not begin as such files do.
    """
    path = Path(name).expanduser()
    if path.suffix != ".gguf" or path.is_dir():
        return None
    if not path.is_file():
        raise UsageError(f"no such file: {name} (of a model on the hub: hf:NAME?gguf=FILE)")
    with path.open("rb") as stream:
        if stream.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise UsageError(f"{name} is not a GGUF file: it does not begin with the letters GGUF")
    if revision is not None:
        raise UsageError(f"{name} is a local file, which has no revisions: remove the revision")
    return path.parent, path.name


def find_device(device: str, *, who: str = "") -> Any:
    """The `torch.device` of that name; "auto" is CUDA where there is one."""
    import_torch()
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"{who}unknown device {device!r}: use cpu, cuda or cuda:N") from error
    if place.type == "meta":  # it holds shapes and no numbers
        raise UsageError(f"{who}device 'meta' computes nothing: use cpu or cuda")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{who}device {device!r} is not available here: use cpu")
    return place


def only_in_cache(
    name: str, shown: str, revision: str | None, *, file: str = "config.json"
) -> Path | None:
    """The folder in the hub's cache (named by the commit) where the hub cannot be reached.

    Asked once and first, because a load asks for file after file, each several times. A copy is
    recognized by its `file`.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = cached_copy(name, revision, file=file)
    except HFValidationError as error:
        raise UsageError(f"{shown} is not a valid name on the hub: {reason(error)}") from error
    missing = "and no copy of it is in the cache: check the name, or give a folder"
    if constants.HF_HUB_OFFLINE:
        if folder is None:
            raise UsageError(f"cannot load {shown}: HF_HUB_OFFLINE is set, {missing}")
        return folder
    try:
        HfApi().model_info(name, revision=revision, timeout=REACH_SECONDS)
    except RevisionNotFoundError as error:
        raise UsageError(f"cannot load {shown}: it has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"cannot load {shown}: the hub has no such model, or it is private: check the name, or "
            "set HF_TOKEN"
        ) from error
    except HfHubHTTPError:
        pass  # it answers; what it refuses is said when a file is asked for
    except Exception as error:  # of the HTTP library, which is not ours to know
        if folder is None:
            raise UsageError(
                f"cannot load {shown}: {constants.ENDPOINT} cannot be reached, {missing}"
            ) from error
        return folder
    return None


def cached_copy(name: str, revision: str | None = None, *, file: str) -> Path | None:
    """The folder of `name` in the hub's cache that has `file`, None where there is none."""
    from huggingface_hub import try_to_load_from_cache

    held = try_to_load_from_cache(name, file, revision=revision)
    return Path(held).parent if isinstance(held, str) else None


def reason(error: Exception) -> str:
    """The error in one line of moderate length: its first sentence, or two lines of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    if not line or not isinstance(error, OSError | ValueError | ImportError):
        line = f"{type(error).__name__} {line}".strip()
    return line if len(line) <= 200 else f"{line[:197]}..."
