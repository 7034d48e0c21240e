"""The Hugging Face models that judge, by the one loader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.checkpoints import Kind, load_checkpoint
from tailbound.huggingface.places import find_device, find_model


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """A model ready to judge, its tokenizer, and what names it: the last two enter the id."""

    model: Any
    tokenizer: Any
    name: str
    revision: str


def load_model(
    provider: str,
    name: str,
    kind: Kind,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
) -> JudgeModel:
    """The model `name`, a hub id or a folder, with its tokenizer.

    A folder's revision is a hash of its files, a hub model's the commit. Raises what
    `load_checkpoint` raises.
    """
    if not name:
        raise UsageError(f"{provider}: needs a model: {provider}:org/name or {provider}:./folder")
    who, needed_by = f"{provider} judge: ", f"the judge {provider}:"
    folder = find_model(name, revision=revision, who=who)
    try:
        place = find_device(device, who=who)
    except ImportError as error:
        raise MissingExtraError(needed_by, "hf") from error
    read = load_checkpoint(
        name if folder is None else folder,
        shown=f"{provider}:{name}",
        kind=kind,
        needed_by=needed_by,
        revision=revision,
        dtype=dtype,
        device=place,
    )
    return JudgeModel(
        read.model,
        read.tokenizer,
        name if folder is None else folder.resolve().name,
        read.revision or "unknown",
    )
