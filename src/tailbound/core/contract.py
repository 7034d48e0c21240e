"""The sampling contract, and the records that travel from a target to the ledger.

The contract is everything that defines p(response | prompt). Draws under different contracts
are draws from different distributions and are never pooled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from tailbound.core.options import check_choices, option
from tailbound.core.prompt import Prompt
from tailbound.core.thinking import Thinking
from tailbound.errors import UsageError

GROUP = "Sampling contract"

FinishReason = Literal["stop", "length", "content_filter", "incomplete"]
"""`content_filter`: a server's content filter kept it back. `incomplete`: the response, or the part
of it that is judged, never came to an end that is understood."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """What the user asks of the sampler; a target resolves it into a `SamplingContract`.

    Defaults are the model's own distribution: temperature 1, top-p 1, top-k off. `thinking` says
    whether what a reasoning model thinks is judged with its reply (`judge`) or not (`drop`);
    `thinking_room` are the tokens that such a model may write over `max_new_tokens`. `extra_body`
    is a JSON object of further parameters for a server.
    """

    max_new_tokens: int = option(
        "Maximum response length in tokens (default: 256; demo: 32).",
        default=256,
        group=GROUP,
        unset=True,
    )
    temperature: float = option("Sampling temperature.", default=1.0, group=GROUP)
    top_p: float = option("Nucleus sampling: probability mass to keep.", default=1.0, group=GROUP)
    top_k: int | None = option(
        "Sample from the K most likely tokens (default: all).", default=None, group=GROUP
    )
    system: str | None = option(
        "System prompt: the text, or a file that holds it.", default=None, group=GROUP
    )
    completion: bool = option(
        "Send prompts as raw text, without the chat template.", default=False, group=GROUP
    )
    stop: tuple[str, ...] = option(
        "End a response at this text (repeatable).", default=(), group=GROUP
    )
    thinking: Thinking = option(
        "What is judged of a reasoning model: the reply alone (drop), or its thinking too (judge).",
        default="drop",
        group=GROUP,
    )
    extra_body: str | None = option(
        "JSON object of extra request parameters for an openai: server.", default=None, group=GROUP
    )
    thinking_room: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UsageError(
                f"temperature must be positive, not {self.temperature}: "
                "a greedy decoder has no tail to measure"
            )
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must lie in (0, 1], not {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(
                f"top-k must be at least 1, not {self.top_k}; leave it out for no limit"
            )
        if self.max_new_tokens < 1:
            raise UsageError(f"max-new-tokens must be at least 1, not {self.max_new_tokens}")
        if "" in self.stop:
            raise UsageError("an empty stop string would end every response at once: remove it")
        if self.completion and self.system is not None:
            raise UsageError(
                "a raw completion has no system prompt: remove --system or --completion"
            )

    def with_room(self) -> SamplingOptions:
        """The options for a model that thinks: `max_new_tokens` holds `thinking_room`."""
        longest = self.max_new_tokens + self.thinking_room
        return replace(self, max_new_tokens=longest, thinking_room=0)


@dataclass(frozen=True, kw_only=True)
class SamplingContract:
    """Everything that defines p(response | prompt) for one target.

    `template` is the SHA-256 of the chat template, None for raw completions; `stop_ids` are all
    token ids that end a response (the stop token is part of the response and of its probability).
    `thinking` and `extra_body` are as in `SamplingOptions`.
    """

    target: str
    revision: str | None
    template: str | None
    system: str | None
    temperature: float
    top_p: float
    top_k: int | None
    max_new_tokens: int
    stop_ids: tuple[int, ...]
    stop: tuple[str, ...]
    precision: str
    thinking: str = "drop"
    extra_body: str | None = None

    @classmethod
    def resolved(
        cls,
        options: SamplingOptions,
        *,
        target: str,
        revision: str | None,
        precision: str,
        template: str | None = None,
        stop_ids: tuple[int, ...] = (),
    ) -> SamplingContract:
        """What `options` mean for one target; `template` and `stop_ids` where it knows them."""
        return cls(
            target=target,
            revision=revision,
            template=template,
            system=options.system,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k,
            max_new_tokens=options.max_new_tokens,
            stop_ids=stop_ids,
            stop=options.stop,
            precision=precision,
            thinking=options.thinking,
            extra_body=options.extra_body,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingContract:
        """Inverse of `to_dict`."""
        known = {field.name for field in fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known
        }
        return cls(**kept)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the contract; the same on every machine."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The first tokens of a response, from which a target can continue it.

    `size` is how much of it there is, in tokens where the engine knows them (`token_ids`), else in
    characters of `text`; `counted` about how many tokens that is. `text` is what a judge reads of
    it, and where `missing` says why there is nothing to read.
    """

    size: int
    token_ids: tuple[int, ...]
    text: str
    counted: int
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawRequest:
    """Ask for draw number `index` (1, 2, ...) of `prompt` in `stream`.

    The triple (prompt id, stream, index), with the seed of the run, names the draw: asked again,
    an in-process target returns the same tokens.

    `segments` says which variant speaks which tokens where a draw is made by a proposal: pairs
    (variant, stop), stops ascending. Token t (0 is the first) belongs to the first pair with t <
    stop, and after the last pair to variant 0, the target itself. An engine with only the target's
    variant refuses requests that ask for another.

    A draw that is to continue the response `beginning` has that response's tokens as its first
    ones, and random numbers of its own for the others; only a target that is `Continuing` takes it.
    """

    prompt: Prompt
    stream: str
    index: int
    segments: tuple[tuple[int, int], ...] = ()
    beginning: Beginning | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One generation.

    `log_prob` is log p(token_ids | prompt) in nats under the contract, stop token included, NaN
    where the engine does not tell; for a draw by a proposal it is the sum of the log-probabilities
    of its tokens, each under the variant that spoke it, and NaN for one that was continued. `text`
    leaves the stop token out. Where the engine returns no ids, `token_ids` is empty and `counted`
    is the number of tokens as the engine counts them, None where it does not. Where nobody can tell
    how unsafe the response was, because it was withheld or never came whole, `missing` says why: it
    is not shown to the judge.
    """

    prompt_id: str
    stream: str
    index: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    log_prob: float
    counted: int | None = None
    missing: str | None = None

    @property
    def tokens(self) -> int | None:
        """The number of tokens, the stop token included; None where it is not known."""
        return len(self.token_ids) or self.counted


@dataclass(frozen=True, slots=True)
class Verdict:
    """How unsafe a response is: a score in [0, 1], or missing (None) with the reason why.

    Missing is never "safe".
    """

    score: float | None
    reason: str | None = None

    @property
    def missing(self) -> bool:
        """True where the judge gave no usable answer."""
        return self.score is None
