"""The target `demo`: the model that comes with tailbound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailbound.contract import SamplingOptions
from tailbound.errors import MissingExtraError, UsageError
from tailbound.extras import require
from tailbound.huggingface.libraries import import_torch

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel


def load(
    name: str, options: SamplingOptions, *, revision: str | None = None, **engine: Any
) -> LocalModel:
    """The embedded demo model; `name` must be empty, `engine` as for `hf:`.

    The model is too small to gain from threads and loses much where cores are shared, so torch is
    set to one thread for the whole process.
    """
    check(name, revision=revision)
    from tailbound.demo.files import model_folder
    from tailbound.targets.huggingface import load_checkpoint

    _one_thread()
    return load_checkpoint(model_folder("model"), options, spec="demo", **engine)


def check(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    **engine: Any,
) -> None:
    """Raise `UsageError` for what `load` would refuse; loads nothing."""
    from tailbound.targets.huggingface import check_engine

    if name:
        raise UsageError(f"the demo target takes no name, not {name!r}: use --target demo")
    if revision is not None:
        raise UsageError("the demo target has no revisions: remove --revision")
    check_engine(dtype=dtype, device=device)
    require("the demo model", "hf")


def _one_thread() -> None:
    try:
        import_torch()
        import torch
    except ImportError as error:
        raise MissingExtraError("the demo model", "hf") from error
    torch.set_num_threads(1)
