"""An unsafe version of the target, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.targets import Target, WhiteBox
from tailbound.targets.capabilities import ProposalEngine, Variant, VariantSource


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposal:
    """An unsafe version of `target`, or none (plain Monte Carlo).

    `variant(intensity)` makes a variant of it; only a `steerable` one has intensities other than 1.
    `id` names it in the ledger: everything that the distribution of its draws depends on must
    change it. `evidence` (JSON values) says why it was chosen, `notices` what a person should know.
    """

    spec: str
    id: str
    target: Target
    variant: Callable[[float], Variant] | None = None
    steerable: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def engine(self, intensities: Sequence[float]) -> ProposalEngine:
        """The target and this proposal at each intensity in one engine, variants 1, 2, ....

        Raises `UsageError` where the target lets no variants speak.
        """
        if self.variant is None or not isinstance(self.target, VariantSource):
            raise UsageError(
                f"--proposal {self.spec} needs a target that lets variants of itself speak, and "
                f"{self.target.contract.target} does not: use --proposal none"
            )
        return self.target.with_variants([self.variant(level) for level in intensities])

    def with_evidence(self, evidence: dict[str, Any], notices: tuple[str, ...]) -> Proposal:
        """The same proposal for other reasons, with more notices."""
        return replace(self, evidence=evidence, notices=(*self.notices, *notices))


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What a search for directions may use: files of prompts, None for the target's own."""

    harmful: Path | None = None
    harmless: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ProposalQuery:
    """What is known before a model is loaded; `target` is its spec, or the target itself.

    `record` is what `proposal.json` of the run in `folder` says, None for a new run.
    """

    spec: str
    name: str
    target: str | Target
    folder: Path
    instructions: Instructions
    record: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class ProposalRequest:
    """What a proposal may be made from; `name` is what stands behind the colon of `spec`.

    A search that draws must be a function of `seed` and the prompts. What it finds is written to
    `folder`, so that a resumed run (`record` is not None) uses the same.
    """

    spec: str
    name: str
    target: Target
    judge: Judge
    prompts: Sequence[Prompt]
    folder: Path
    instructions: Instructions
    record: dict[str, Any] | None
    seed: int

    @property
    def white_box(self) -> WhiteBox:
        """The target, whose network must be at hand; raises `UsageError` where it is not."""
        if not isinstance(self.target, WhiteBox):
            raise UsageError(no_weights(self.spec, self.target.contract.target))
        return self.target


def no_weights(spec: str, target: str) -> str:
    """The message for a proposal that needs a network which is not at hand."""
    return (
        f"--proposal {spec} needs the target's weights in this process (hf: or demo), and {target} "
        "is not: use --proposal none"
    )
