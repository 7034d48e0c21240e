"""What some targets can do besides sampling, each as a small Protocol.

A `Target` has to sample; everything here is optional, and code that needs one of these asks for it
by `isinstance` and says what it does without it. Judges have notices and costs too. Nothing here
needs torch.

    Notices, LateNotices    lines for a person, before and after a run
    Metered, PaidTarget     what a server was asked for and paid, and what a plan will cost
    CountsTokens            tokens as the server counts them
    Probed                  what was found out about a server
    Tokenized               the tokenizer is at hand
    FeatureSource           hidden states are at hand
    Scoring                 the probability of a given response
    Continuing              a given beginning of a response is continued: splitting
    VariantSource           versions of the target speak in one engine: importance sampling
    Reweightable            its engine can make some of the target's tokens more likely: learning
    Extensible              its engine lets more versions speak once it runs: learned adapters
    Rebuildable             a variant can be made in another process too: workers
    Heatable                one of them may be the target heated: explorers
    WhiteBox                the network itself is at hand: steering
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tailbound.core.contract import Beginning, Draw, DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.targets.base import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tailbound.targets.decoding.batched_model import BatchedModel
    from tailbound.targets.decoding.decoder import Decoder
    from tailbound.targets.decoding.distribution import Distribution
    from tailbound.targets.decoding.encoding import Encoder
    from tailbound.targets.decoding.fp64_fallback import Fp64Fallback
    from tailbound.targets.decoding.variant import ModelVariant


@runtime_checkable
class Notices(Protocol):
    """A target with lines to show before a run, or a judge with lines to show after it."""

    @property
    def notices(self) -> tuple[str, ...]:
        """One line each."""
        ...


@runtime_checkable
class LateNotices(Protocol):
    """A target that may find out during a run what a person should know after it."""

    @property
    def late_notices(self) -> tuple[str, ...]:
        """One line each."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A target or judge behind a server that counts, and perhaps charges."""

    def spent(self, *, under_way: bool = False) -> dict[str, Any] | None:
        """Requests, tokens and `cost` of this process so far; None where nothing is counted.

        With `under_way`, the cost holds the most that requests not yet answered may come to.
        """
        ...


@runtime_checkable
class PaidTarget(Metered, Protocol):
    """A target whose draws have a price; all prices are in one currency."""

    @property
    def max_cost(self) -> float | None:
        """The limit on the cost of a run, None for no limit."""
        ...

    @property
    def earlier_cost(self) -> float:
        """What earlier processes spent on the same run."""
        ...

    def price(self, tokens_in: float, tokens_out: float) -> float:
        """What so many tokens of prompts and of responses cost."""
        ...

    def cost_at_least(self, prompts: Sequence[Prompt], draws: float) -> float:
        """What `draws` draws of each prompt cost if every response is as short as it may be."""
        ...

    def cost_at_most(self, prompts: Sequence[Prompt], draws: float) -> float:
        """What they cost if every response is as long as it may be."""
        ...


class TokenUsage(Protocol):
    """Tokens of all requests so far, as a server counts them."""

    @property
    def tokens_in(self) -> int:
        """Those of prompts."""
        ...

    @property
    def tokens_out(self) -> int:
        """Those of responses."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A target whose server counts tokens; several draws of one request may be counted together."""

    @property
    def usage(self) -> TokenUsage:
        """The count, up to date."""
        ...


class Findings(Protocol):
    """What was found out about a server."""

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values, ready for YAML or JSON."""
        ...


@runtime_checkable
class Probed(Protocol):
    """A target whose server was asked what it honours; `run.yaml` records the answer."""

    @property
    def capabilities(self) -> Findings:
        """What it honours."""
        ...


@runtime_checkable
class Tokenized(Protocol):
    """A target whose tokenizer is at hand: its control tokens are known."""

    @property
    def tokenizer(self) -> Any:
        """A Hugging Face tokenizer."""
        ...


@runtime_checkable
class FeatureSource(Protocol):
    """A source of features of prompts: a target whose hidden states are at hand, or an encoder."""

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """Finite numbers, shape (len(prompts), dimension); of (0, dimension) for no prompts."""
        ...


@runtime_checkable
class Scoring(Protocol):
    """A target that knows the probability of any response."""

    def score(self, prompt: Prompt, responses: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """log p(response | prompt) in nats under the contract, shape (len(responses),)."""
        ...


@runtime_checkable
class SharedScoring(Protocol):
    """A `ProposalEngine` that scores replies to several prompts in shared passes."""

    def score_all(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """`score` of responses to several prompts, one prompt each."""
        ...


@runtime_checkable
class Continuing(Protocol):
    """A target that can continue a given beginning of a response, as `DrawRequest` asks it to."""

    def check_continuing(self) -> None:
        """Raise `UsageError` where it cannot do so under its contract, or its server does not.

        It may ask a server a few short questions to find out.
        """
        ...

    def beginnings(self, prompt: Prompt, draw: Draw, *, every: int) -> list[Beginning]:
        """Where `draw` may be cut, about every so many tokens; ascending, the whole left out."""
        ...


class Variant(Protocol):
    """A version of the target that may speak some tokens of a draw; opaque but for its name."""

    @property
    def name(self) -> str:
        """Different from the names of all other variants of an engine."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Traced:
    """One draw with what the self-checks need, all in nats.

    `spoken` (tokens,) is the log-probability of each token when it was sampled; `scored` (variants,
    tokens) what one teacher-forced pass of each variant gives it.
    """

    draw: Draw
    spoken: NDArray[np.float64]
    scored: NDArray[np.float64]


class ProposalEngine(Target, Protocol):
    """A target and its variants in one engine, all under the target's contract.

    It obeys `DrawRequest.segments`; without them it samples as the target does, token by token.
    """

    @property
    def variants(self) -> Sequence[Variant]:
        """Number 0 is the target itself."""
        ...

    def draw(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Draw]:
        """The draws that `requests` ask for, in the order in which they finish."""
        ...

    def score(
        self,
        prompt: Prompt,
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Log-probability of every token under each variant (or those numbered), in nats.

        One array (variants, tokens) per response, each token given all before it.
        """
        ...

    def trace(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Traced]:
        """Draw `requests` and score every token of them."""
        ...

    def effect(self, number: int, prompt: Prompt, response: Sequence[int]) -> NDArray[np.float64]:
        """How far variant `number` moves the logits before each token, shape (tokens,).

        The largest difference from the target's, up to a common shift; 0 where it does nothing.
        """
        ...


@runtime_checkable
class Reweightable(Protocol):
    """An engine whose target can be reweighted token by token."""

    def expected(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[int]],
        weights: Sequence[float],
        tokens: Mapping[str, Sequence[int]],
    ) -> dict[str, NDArray[np.float64]]:
        """How often the target would say `tokens` in the places of `responses`, by prompt id.

        Each response has its prompt, each prompt its tokens: (2, tokens), the sum over all places
        and that over first places alone.
        """
        ...

    def add_reweighted(
        self, name: str, tables: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    ) -> int:
        """Let a version of the target speak that says some tokens more often; its number."""
        ...


@runtime_checkable
class Extensible(Protocol):
    """An engine in which more versions of the target may speak from some moment on."""

    def add_variant(self, variant: Any) -> int:
        """Let one more version speak; its number."""
        ...


@runtime_checkable
class Rebuildable(Protocol):
    """A variant that another process can make too, of the same target."""

    @property
    def name(self) -> str:
        """That of the variant."""
        ...

    @property
    def recipe(self) -> Callable[[Any], Any] | None:
        """Makes it of the target; can be sent to another process. None where it cannot be made."""
        ...


@runtime_checkable
class VariantSource(Protocol):
    """A target that can let variants of itself speak: all that importance sampling needs of one."""

    def with_variants(self, variants: Sequence[Any]) -> ProposalEngine:
        """An engine with these variants, the target itself left out; names must differ."""
        ...


@runtime_checkable
class Heatable(Protocol):
    """A `VariantSource` that can also speak hotter: what explores routes that no steering takes."""

    def heated(self, temperature: float, *, name: str) -> Variant:
        """A variant whose likeliest tokens have `temperature` times the contract's temperature.

        It must be able to say whatever the target can.
        """
        ...


@runtime_checkable
class WhiteBox(Target, FeatureSource, Scoring, VariantSource, Heatable, Notices, Protocol):
    """A target whose network is at hand in this process: what steering and its proposals need.

    `tailbound.targets.decoding.model.LocalModel` is one. A plugin makes its own by loading a
    checkpoint (`tailbound.targets.huggingface.load_checkpoint`) or by delegating to one.
    """

    model: Any
    tokenizer: Any
    options: SamplingOptions
    batch_size: int
    prompt_cache_bytes: int
    network: BatchedModel
    encoder: Encoder
    distribution: Distribution
    fallback: Fp64Fallback | None
    variant: ModelVariant

    def decoder(self, variants: Sequence[ModelVariant]) -> Decoder:
        """A decoder of the contract; `variants[0]` is the target's own."""
        ...


def notices_of(one: object) -> tuple[str, ...]:
    """The notices of a target or judge, none where it has none to give."""
    return tuple(one.notices) if isinstance(one, Notices) else ()


def late_notices_of(target: object) -> tuple[str, ...]:
    """What a target found out during a run."""
    return tuple(target.late_notices) if isinstance(target, LateNotices) else ()


def spent_by(one: object, *, under_way: bool = False) -> dict[str, Any] | None:
    """What a target or judge asked of its server so far; None where it has none."""
    return one.spent(under_way=under_way) if isinstance(one, Metered) else None


def capabilities_of(target: object) -> dict[str, Any] | None:
    """What was found out about the server of a target; None for other targets."""
    return dict(target.capabilities.to_dict()) if isinstance(target, Probed) else None
