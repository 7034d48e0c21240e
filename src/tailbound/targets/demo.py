"""The target `demo`: the model that comes with tailbound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tailbound.contract import SamplingOptions
from tailbound.errors import UsageError

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel


def load(
    name: str, options: SamplingOptions, *, revision: str | None = None, **engine: Any
) -> LocalModel:
    """The embedded demo model; `name` must be empty, `engine` as for `hf:`."""
    if name:
        raise UsageError(f"the demo target takes no name, not {name!r}: use --target demo")
    if revision is not None:
        raise UsageError("the demo target has no revisions: drop --revision")
    from tailbound.demo.files import model_folder
    from tailbound.targets.transformers import load_checkpoint

    return load_checkpoint(model_folder("model"), options, spec="demo", **engine)
