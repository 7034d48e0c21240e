"""What is known about a target before it is loaded, as its provider declares it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailbound.core.plugins import keyword_options
from tailbound.errors import UsageError
from tailbound.targets.options import EngineOptions

if TYPE_CHECKING:
    from tailbound.core.contract import SamplingContract
    from tailbound.core.prompt import Prompt
    from tailbound.steering.traits import Trait

    ExactRisks = Callable[
        [Sequence[Prompt], SamplingContract, str], Sequence[tuple[float, float]] | None
    ]

DEFAULTS: Mapping[str, Any] = asdict(EngineOptions())
"""Loader options that have a value where the user gives none; all others are then None."""

NOT_REFUSED = frozenset({"batch_size", "earlier_cost"})
"""Options that a target may do without: how much is sent at once, and what was paid so far."""


@dataclass(frozen=True, kw_only=True)
class TargetProvider:
    """How targets of one provider are made, and what holds for all of them.

    `load(name, options, **engine)` gives the target of `provider:name` under `SamplingOptions`;
    `check(name, **engine)`, if there is one, raises what it would raise at once and loads nothing.
    `options` are the names of the loader options it takes (`batch_size`, `dtype`, `device`,
    `revision`, `base_url`, ...; `extra_body` where the sampling option of that name is honoured):
    by default the keyword-only parameters of `load`, or any where it has `**kwargs`. Others are
    refused before anything is loaded.

    `white_box`: the network is at hand for steering (`tailbound.targets.capabilities.WhiteBox`).
    `served`: it is behind a server, which shows no hidden states and may charge.
    `local_revision(name)` is the hash that the files of `provider:name` have on this machine now,
    None where they lie elsewhere; it loads nothing.
    `example_instructions()` gives prompts that the model refuses and prompts that it answers, for
    finding its refusal direction; `traits(name)` a trait that it is known to have, and raises
    `UsageError` for others.

    For studies: `example_prompts(n)` gives n prompts of widely spread risks, `example_trait` is the
    name of a trait, and `exact_risks(prompts, contract, judge_id)` the ends between which the risk
    of each prompt is known to lie, or None where it is not known under that contract and judge.
    """

    load: Callable[..., Any]
    check: Callable[..., None] | None = None
    options: Collection[str] | None = None
    default_max_new_tokens: int = 256
    white_box: bool = False
    served: bool = False
    description: str = ""
    local_revision: Callable[[str], str | None] | None = None
    example_instructions: Callable[[], tuple[Sequence[Prompt], Sequence[Prompt]]] | None = None
    traits: Callable[[str], Trait] | None = None
    example_prompts: Callable[[int], Sequence[Prompt]] | None = None
    example_trait: str | None = None
    exact_risks: ExactRisks | None = None

    def __post_init__(self) -> None:
        if self.options is None:
            object.__setattr__(self, "options", keyword_options(self.load))
        elif isinstance(self.options, str):
            raise UsageError(f"options must be a set of names, not the text {self.options!r}")
        else:
            object.__setattr__(self, "options", frozenset(self.options))
        longest = self.default_max_new_tokens
        if type(longest) is not int or longest < 1:
            raise UsageError(f"default_max_new_tokens must be at least 1, not {longest!r}")

    def takes(self, option: str) -> bool:
        """Whether the loader has this option."""
        return self.options is None or option in self.options
