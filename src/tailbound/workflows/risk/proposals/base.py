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
from tailbound.targets.capabilities import PaidTarget, ProposalEngine, Variant, VariantSource


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

    @property
    def label(self) -> str:
        """What its draws are called: the kind and the name of the spec, without folders."""
        kind, colon, name = self.spec.partition(":")
        return f"{kind}{colon}{Path(name).name}" if colon else kind

    def with_evidence(self, evidence: dict[str, Any], notices: tuple[str, ...]) -> Proposal:
        """The same proposal for other reasons, with more notices."""
        return replace(self, evidence=evidence, notices=(*self.notices, *notices))


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposals:
    """All that draws besides the target: unsafe versions of it, and explorers.

    `parts` are the unsafe versions, none for plain Monte Carlo or explorers alone. With `explore`
    heated and reweighted versions of the target take part, which rest on no part; with `learn`,
    which needs `explore`, also an adapter that is trained between batches.
    """

    target: Target
    parts: tuple[Proposal, ...] = ()
    explore: bool = False
    learn: bool = False

    @property
    def spec(self) -> tuple[str, ...]:
        """The specs of all parts; `("none",)` where there is nothing but the target."""
        specs = tuple(part.spec for part in self.parts) + ((LEARN,) if self.learn else ())
        return specs or ((EXPLORE,) if self.explore else ("none",))

    @property
    def id(self) -> str:
        """Names them in the ledger."""
        names = [part.id for part in self.parts]
        names += [EXPLORE] * self.explore + [LEARN] * self.learn
        return " + ".join(names) or "none"

    @property
    def steerable(self) -> bool:
        """Whether any part has intensities."""
        return any(part.steerable for part in self.parts)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know, of all parts."""
        return tuple(line for part in self.parts for line in part.notices)

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """Why each part was chosen."""
        return [{"spec": part.spec, "id": part.id, **part.evidence} for part in self.parts]

    def variants(self, intensities: Sequence[float]) -> dict[str, Variant]:
        """A variant of each part, at each intensity where it has them, by its name in the ladder.

        Raises `UsageError` for parts of the same name.
        """
        found: dict[str, Variant] = {}
        for part in self.parts:
            assert part.variant is not None
            for level in intensities if part.steerable else (1.0,):
                name = part.label if level == 1 else f"{part.label} x {level:g}"
                if name in found:
                    raise UsageError(f"--proposal {part.spec} is given twice: give it once")
                found[name] = part.variant(level)
        return found


EXPLORE, LEARN = "heat", "learned"
"""The specs of explorers alone, without any unsafe version, and of an adapter that is learned."""


def engine_of(target: Target, variants: Sequence[Variant], *, spec: str) -> ProposalEngine:
    """The target and `variants` of it in one engine, as numbers 1, 2, ....

    Raises `UsageError` where the target lets no variants speak.
    """
    if not isinstance(target, VariantSource):
        raise UsageError(
            f"--proposal {spec} needs a target that lets variants of itself speak, and "
            f"{target.contract.target} does not: use --proposal none"
        )
    return target.with_variants(variants)


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What a search for directions may use: files of prompts, None for the target's own."""

    harmful: Path | None = None
    harmless: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ProposalQuery:
    """What is known before a model is loaded; `target` is its spec, or the target itself.

    `record` is what `proposal.json` of the run in `folder` says of it, None for a new run; `kept`
    is where the run keeps what it finds.
    """

    spec: str
    name: str
    target: str | Target
    folder: Path
    instructions: Instructions
    record: dict[str, Any] | None
    kept: Path


@dataclass(frozen=True, kw_only=True)
class ProposalRequest:
    """What a proposal may be made from; `name` is what stands behind the colon of `spec`.

    A search that draws must be a function of `seed` and the prompts. What it finds is written to
    the folder `kept` of the run in `folder`, so that a resumed run (`record` is not None) uses the
    same.
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
    kept: Path

    @property
    def white_box(self) -> WhiteBox:
        """The target, whose network must be at hand; raises `UsageError` where it is not."""
        if not isinstance(self.target, WhiteBox):
            served = isinstance(self.target, PaidTarget)
            raise UsageError(no_weights(self.spec, self.target.contract.target, served=served))
        return self.target


def no_weights(spec: str, target: str, *, served: bool = False) -> str:
    """The message for a proposal that needs a network which is not at hand.

    `served` says that the target is behind a server, which may do what splitting asks of it.
    """
    cure = "use --proposal none"
    if served:
        cure = (
            "give --proposal none (plain Monte Carlo), or --proposal splitting where the server "
            "continues a reply that is begun"
        )
    return (
        f"--proposal {spec} needs the target's weights in this process (hf: or demo), and {target} "
        f"is not: {cure}"
    )
