"""`model:NAME`, `lora:PATH`: another network with the target's vocabulary."""

from __future__ import annotations

from pathlib import Path

from tailbound.core.extras import require
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.targets import WhiteBox
from tailbound.targets.registry import check_target, list_targets, load_target
from tailbound.workflows.risk.proposals.base import Proposal, ProposalQuery, ProposalRequest
from tailbound.workflows.risk.proposals.registry import ProposalProvider


def check_model(query: ProposalQuery) -> None:
    """Raise `UsageError` for a checkpoint that cannot be loaded."""
    check_target(_spec(query.name))


def make_model(request: ProposalRequest) -> Proposal:
    """Another checkpoint, in the target's precision and on its device."""
    target = request.white_box
    model = load_target(
        _spec(request.name),
        target.options,
        batch_size=target.batch_size,
        dtype=target.contract.precision,
        device=str(target.network.device),
    )
    if not isinstance(model, WhiteBox):
        raise UsageError(
            f"--proposal {request.spec}: the weights of {model.contract.target} are not in this "
            "process: give a model of hf:"
        )
    return _other(request.spec, target, model)


def check_lora(query: ProposalQuery) -> None:
    """Raise `UsageError` for a folder that holds no adapter, and without peft."""
    from tailbound.huggingface.adapters import check_adapter

    check_adapter(Path(query.name).expanduser(), query.name)
    require("a LoRA adapter as proposal", "lora")


def make_lora(request: ProposalRequest) -> Proposal:
    """The target with a LoRA adapter merged into a copy of its weights."""
    from tailbound.huggingface.adapters import merged
    from tailbound.huggingface.fingerprint import folder_revision

    target = request.white_box
    folder = Path(request.name).expanduser()
    with step(f"loading the adapter {request.name}"):
        from tailbound.targets.decoding.model import LocalModel

        with target.network.bare() as model:
            adapted = merged(model, folder, name=request.name)
        found = LocalModel(
            adapted,
            target.tokenizer,
            target.options,
            name=f"lora:{folder.resolve().name}",
            revision=folder_revision(folder),
            batch_size=target.batch_size,
        )
    return _other(request.spec, target, found)


def _spec(name: str) -> str:
    """The target that `name` means: `provider:name`, or a Hugging Face model."""
    provider, colon, _ = name.partition(":")
    return name if colon and provider in list_targets() else f"hf:{name}"


def _other(spec: str, target: WhiteBox, model: WhiteBox) -> Proposal:
    from tailbound.targets.decoding.proposals import other_model

    contract = model.contract
    return Proposal(
        spec=spec,
        id=f"{contract.target}@{contract.revision or 'unknown'}",
        target=target,
        variant=lambda intensity: other_model(target, model, name=contract.target),
        evidence={"kind": spec.partition(":")[0], "revision": contract.revision},
    )


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
