"""The target `demo`: the model that comes with tailbound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import SamplingOptions
from tailbound.core.extras import require
from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.libraries import import_torch
from tailbound.targets.provider import TargetProvider

if TYPE_CHECKING:
    from tailbound.core.contract import SamplingContract
    from tailbound.core.prompt import Prompt
    from tailbound.steering.traits import Trait
    from tailbound.targets.decoding.model import LocalModel


def load(name: str, options: SamplingOptions, **engine: Any) -> LocalModel:
    """The embedded demo model; `name` must be empty, `engine` as for `hf:`.

    The model is too small to gain from threads and loses much where cores are shared, so torch is
    set to one thread for the whole process.
    """
    check(name)
    from tailbound.demo.files import model_folder
    from tailbound.targets.huggingface import load_checkpoint

    _one_thread()
    return load_checkpoint(model_folder("model"), options, spec="demo", **engine)


def check(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    **engine: Any,
) -> None:
    """Raise `UsageError` for what `load` would refuse; loads nothing."""
    from tailbound.targets.huggingface import check_engine

    if name:
        raise UsageError(f"the demo target takes no name, not {name!r}: use --target demo")
    check_engine(dtype=dtype, device=device)
    require("the demo model", "hf")


def _one_thread() -> None:
    try:
        import_torch()
        import torch
    except ImportError as error:
        raise MissingExtraError("the demo model", "hf") from error
    torch.set_num_threads(1)


def _revision(name: str) -> str:
    from tailbound.demo.files import model_folder
    from tailbound.huggingface.fingerprint import folder_revision

    return folder_revision(model_folder("model"))


def _instructions() -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    from tailbound.demo.steering import demo_refusal_prompts

    return demo_refusal_prompts()


def _trait(name: str) -> Trait:
    from tailbound.demo.steering import demo_trait

    return demo_trait(name)


def _prompts(n: int) -> Sequence[Prompt]:
    from tailbound.demo.exact import prompts_of_spread_risks

    return prompts_of_spread_risks(n)


def _exact_risks(
    prompts: Sequence[Prompt], contract: SamplingContract, judge_id: str
) -> Sequence[tuple[float, float]] | None:
    from tailbound.demo.exact import exact_risks, is_exact_for

    if not is_exact_for(contract, judge_id):
        return None
    return [(found.risk, found.upper) for found in exact_risks(prompts)]


provider = TargetProvider(
    load=load,
    check=check,
    options=frozenset({"batch_size", "dtype", "device", "tolerance", "prompt_cache_bytes"}),
    default_max_new_tokens=32,  # its context is short
    white_box=True,
    description="the embedded demo model: offline, with known exact risks",
    local_revision=_revision,
    example_instructions=_instructions,
    traits=_trait,
    example_prompts=_prompts,
    example_trait="flatter",
    exact_risks=_exact_risks,
)
