"""`model:NAME`, `lora:PATH`: another network with the target's vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.extras import require
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.targets import WhiteBox
from tailbound.targets.registry import check_target, list_targets, load_target
from tailbound.workflows.risk.proposals.base import Proposal, ProposalQuery, ProposalRequest
from tailbound.workflows.risk.proposals.registry import ProposalProvider

if TYPE_CHECKING:
    from tailbound.targets.decoding.model import LocalModel
    from tailbound.targets.decoding.variant import ModelVariant


def check_model(query: ProposalQuery) -> None:
    """Raise `UsageError` for a checkpoint that cannot be loaded."""
    check_target(_spec(query.name))


def make_model(request: ProposalRequest) -> Proposal:
    """Another checkpoint, in the target's precision and on its device."""
    model = _checkpoint(request.white_box, request.name)
    if not isinstance(model, WhiteBox):
        raise UsageError(
            f"--proposal {request.spec}: the weights of {model.contract.target} are not in this "
            "process: give a model of hf:"
        )
    return _other(request.spec, request.white_box, model, partial(_checkpoint, name=request.name))


def _checkpoint(target: WhiteBox, name: str) -> Any:
    return load_target(
        _spec(name),
        target.options,
        batch_size=target.batch_size,
        dtype=target.contract.precision,
        device=str(target.network.device),
    )


def check_lora(query: ProposalQuery) -> None:
    """Raise `UsageError` for a folder that holds no adapter, and without peft."""
    from tailbound.huggingface.adapters import check_adapter

    check_adapter(Path(query.name).expanduser(), query.name)
    require("a LoRA adapter as proposal", "lora")


def make_lora(request: ProposalRequest) -> Proposal:
    """The target with a LoRA adapter merged into a copy of its weights."""
    folder = Path(request.name).expanduser()
    with step(f"loading the adapter {request.name}"):
        found = _merged(request.white_box, folder, request.name)
    again = partial(_merged, folder=folder.absolute(), name=request.name)
    return _other(request.spec, request.white_box, found, again)


def _merged(target: WhiteBox, folder: Path, name: str) -> LocalModel:
    from tailbound.huggingface.adapters import merged
    from tailbound.huggingface.fingerprint import folder_revision
    from tailbound.targets.decoding.model import LocalModel

    with target.network.bare() as model:
        adapted = merged(model, folder, name=name)
    return LocalModel(
        adapted,
        target.tokenizer,
        target.options,
        name=f"lora:{folder.resolve().name}",
        revision=folder_revision(folder),
        batch_size=target.batch_size,
    )


def _spec(name: str) -> str:
    """The target that `name` means: `provider:name`, or a Hugging Face model."""
    provider, colon, _ = name.partition(":")
    return name if colon and provider in list_targets() else f"hf:{name}"


def _other(
    spec: str, target: WhiteBox, model: WhiteBox, again: Callable[[WhiteBox], Any]
) -> Proposal:
    """The proposal that `model` is, which `again` loads in another process."""
    contract = model.contract
    return Proposal(
        spec=spec,
        id=f"{contract.target}@{contract.revision or 'unknown'}",
        target=target,
        variant=lambda intensity: _variant(target, model, again, name=contract.target),
        evidence={"kind": spec.partition(":")[0], "revision": contract.revision},
    )


def _variant(
    target: WhiteBox, model: WhiteBox, again: Callable[[WhiteBox], Any], *, name: str
) -> ModelVariant:
    from tailbound.targets.decoding.proposals import other_model

    return replace(
        other_model(target, model, name=name), recipe=partial(_loaded, again=again, name=name)
    )


def _loaded(target: WhiteBox, *, again: Callable[[WhiteBox], Any], name: str) -> ModelVariant:
    """The same, loaded in another process."""
    return _variant(target, again(target), again, name=name)


model = ProposalProvider(
    make=make_model,
    check=check_model,
    white_box=True,
    description="model:NAME: another checkpoint with the same tokenizer",
)
lora = ProposalProvider(
    make=make_lora,
    check=check_lora,
    placeholder="PATH",
    white_box=True,
    description="lora:PATH: an adapter of the target",
)
