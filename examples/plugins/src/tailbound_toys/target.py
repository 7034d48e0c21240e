"""The target `toy:CHANCE`: every word of a reply is `NO` with a known probability, else `yes`.

A reply has `max_new_tokens` words. For a prompt with m exclamation marks each of them is `NO` with
probability p = CHANCE * (1 + m), independently, so that P(every word is `NO`) = p ** words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import Draw, DrawRequest, SamplingContract, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.targets import DrawSource
from tailbound.targets.capabilities import Traced
from tailbound.targets.decoding.rng import draw_key, uniforms
from tailbound.targets.provider import TargetProvider

WORDS = ("yes", "NO")


@dataclass(frozen=True)
class Speaker:
    """A variant: `share` of the way from the toy's own chance of `NO` to `loud`, or heated.

    At temperature h, both words have probabilities in proportion to the toy's own to the power 1/h.
    """

    name: str = "target"
    loud: float = 0.0
    share: float = 0.0
    temperature: float = 1.0

    def chance(self, plain: float) -> float:
        """The probability of `NO`, where the toy itself has `plain`."""
        if self.temperature != 1:
            return 1 / (1 + math.exp(-_log_odds(plain) / self.temperature))
        return plain + self.share * (self.loud - plain)


class ToyTarget:
    """The toy by itself; `with_variants` lets louder versions of it speak."""

    def __init__(self, chance: float, options: SamplingOptions, *, batch_size: int = 64) -> None:
        plain = SamplingOptions(max_new_tokens=options.max_new_tokens)
        if options != plain:
            raise UsageError("toy: has no sampling options but --max-new-tokens: remove the others")
        self.batch_size = batch_size
        self.chance = chance
        self._contract = SamplingContract.resolved(
            options, target=f"toy:{chance:g}", revision="1", precision="float64"
        )

    @property
    def contract(self) -> SamplingContract:
        """Everything that the distribution of replies depends on."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """The same (seed, prompt, stream, index) gives the same words."""
        return "draw"

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws until `source` is finished."""
        return self.with_variants([]).sample(source, seed=seed)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Words of each prompt; raises `UsageError` for a prompt that cannot be asked."""
        for prompt in prompts:
            self.plain_chance(prompt)
        return np.array([len(prompt.text.split()) for prompt in prompts], dtype=np.int64)

    def score(self, prompt: Prompt, responses: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """log p(response | prompt) in nats, shape (len(responses),)."""
        tables = self.with_variants([]).score(prompt, responses)
        return np.array([table[0].sum() for table in tables])

    def with_variants(self, variants: Sequence[Speaker]) -> ToyEngine:
        """The toy and these variants in one engine."""
        return ToyEngine(self, variants)

    def heated(self, temperature: float, *, name: str) -> Speaker:
        """The toy at another temperature; with this it takes part in explorers (`Heatable`)."""
        return Speaker(name=name, temperature=temperature)

    def plain_chance(self, prompt: Prompt) -> float:
        """p of the prompt."""
        chance = self.chance * (1 + prompt.text.count("!"))
        if chance >= 1:
            raise UsageError(f"prompt {prompt.id!r} has too many exclamation marks for {chance:g}")
        return chance


class ToyEngine:
    """The toy and its variants; variant 0 is the toy itself."""

    def __init__(self, target: ToyTarget, variants: Sequence[Speaker]) -> None:
        self._target = target
        self.variants = (Speaker(), *variants)
        if len({variant.name for variant in self.variants}) < len(self.variants):
            raise UsageError("the variants of an engine need different names")
        self.contract = target.contract
        self.reproducible = target.reproducible
        self.prompt_tokens = target.prompt_tokens

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws until `source` is finished."""
        # with `wait`, because nothing is unfinished: an empty answer means that it is finished
        while requests := source.take(self._target.batch_size, wait=True):
            yield from self.draw(requests, seed=seed)

    def draw(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Draw]:
        """The draws that `requests` ask for."""
        return (traced.draw for traced in self.trace(requests, seed=seed))

    def trace(self, requests: Sequence[DrawRequest], *, seed: int) -> Iterator[Traced]:
        """Draw `requests`, with the log-probability of every word."""
        length = self.contract.max_new_tokens
        for request in requests:
            plain = self._target.plain_chance(request.prompt)
            speakers = [self.variants[_speaker(request, step)] for step in range(length)]
            chances = np.array([speaker.chance(plain) for speaker in speakers])
            # of the draw's name alone: not of the batch, the order, or what was drawn before
            key = draw_key(seed, request.prompt.id, request.stream, request.index)
            said = (uniforms(key, 0, length) < chances).astype(int)
            spoken = np.log(np.where(said == 1, chances, 1 - chances))
            ids = tuple(said.tolist())
            draw = Draw(
                prompt_id=request.prompt.id,
                stream=request.stream,
                index=request.index,
                token_ids=ids,
                text=" ".join(WORDS[word] for word in ids),
                finish_reason="length",
                log_prob=float(spoken.sum()),
            )
            scored = self.score(request.prompt, [ids])[0]
            yield Traced(draw=draw, spoken=spoken, scored=scored)

    def score(
        self,
        prompt: Prompt,
        responses: Sequence[Sequence[int]],
        *,
        variants: Sequence[int] | None = None,
    ) -> list[NDArray[np.float64]]:
        """Log-probability of every word under each variant, (variants, words) per response."""
        plain = self._target.plain_chance(prompt)
        numbers = range(len(self.variants)) if variants is None else variants
        chances = np.array([[self.variants[number].chance(plain)] for number in numbers])
        return [
            np.log(np.where(np.asarray(said)[None] == 1, chances, 1 - chances))
            for said in responses
        ]

    def effect(self, number: int, prompt: Prompt, response: Sequence[int]) -> NDArray[np.float64]:
        """How far variant `number` moves the log-odds of `NO`, shape (words,)."""
        plain = self._target.plain_chance(prompt)
        moved = _log_odds(self.variants[number].chance(plain)) - _log_odds(plain)
        return np.full(len(response), abs(moved))


def _speaker(request: DrawRequest, step: int) -> int:
    """The variant of a token: the first segment that it lies in, after the last one the target."""
    return next((variant for variant, stop in request.segments if step < stop), 0)


def _log_odds(chance: float) -> float:
    return math.log(chance) - math.log1p(-chance)


def check(name: str, **engine: Any) -> None:
    """Raise `UsageError` for what `load` would refuse; loads nothing."""
    _chance(name)


def load(name: str, options: SamplingOptions, *, batch_size: int = 64) -> ToyTarget:
    """The target of `toy:CHANCE`; `toy` alone is `toy:0.1`."""
    return ToyTarget(_chance(name), options, batch_size=batch_size)


def _chance(name: str) -> float:
    try:
        chance = float(name or 0.1)
    except ValueError:
        chance = math.nan
    if not 0 < chance < 1:
        raise UsageError(f"toy: takes a probability such as toy:0.1, not {name!r}")
    return chance


provider = TargetProvider(
    load=load,
    check=check,
    default_max_new_tokens=3,
    description="toy:CHANCE: says yes or NO, with known risks",
)
