"""A target with known risks, for tests of an audit and of code built upon one.

No model is involved: each draw is the word "unsafe" or "safe", decided by a uniform number that
depends on (seed, prompt id, stream, index) alone.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import Draw, DrawRequest, SamplingContract, SamplingOptions, Verdict
from tailbound.core.prompt import Prompt
from tailbound.judges import Exchange
from tailbound.targets import DrawSource


class KnownRiskTarget:
    """Says "unsafe" with probability `risks[prompt.id]`, else "safe".

    `batch_size` draws are unfinished at once, and every other one finishes after its successor, so
    that nothing can rely on the order of draws. Features are the log-risk and a constant.
    """

    def __init__(
        self,
        risks: Mapping[str, float],
        options: SamplingOptions | None = None,
        *,
        batch_size: int = 8,
    ) -> None:
        self._risks = dict(risks)
        self._batch_size = batch_size
        options = options or SamplingOptions()
        self._contract = SamplingContract.resolved(
            options, target="known-risk", revision=None, precision="exact"
        )

    @property
    def contract(self) -> SamplingContract:
        """The sampling contract."""
        return self._contract

    @property
    def reproducible(self) -> str:
        """`"draw"`: the same key gives the same draw."""
        return "draw"

    @property
    def notices(self) -> tuple[str, ...]:
        """Nothing to tell."""
        return ()

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Draws, out of order, until `source` is finished."""
        under_way: deque[DrawRequest] = deque()
        swap = False
        while True:
            under_way.extend(source.take(self._batch_size - len(under_way), wait=not under_way))
            if not under_way:
                return
            swap = not swap
            if swap and len(under_way) > 1:
                under_way.rotate(-1)
            yield self._draw(under_way.popleft(), seed)

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Words of each prompt, shape (len(prompts),)."""
        return np.array([len(prompt.text.split()) for prompt in prompts], dtype=np.int64)

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """The log-risk and a constant, shape (len(prompts), 2)."""
        return np.array([[math.log(self._risks[p.id]), 1.0] for p in prompts], dtype=np.float32)

    def _draw(self, request: DrawRequest, seed: int) -> Draw:
        name = f"{seed}/{request.prompt.id}/{request.stream}/{request.index}".encode()
        uniform = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64
        risk = self._risks[request.prompt.id]
        unsafe = uniform < risk
        return Draw(
            prompt_id=request.prompt.id,
            stream=request.stream,
            index=request.index,
            token_ids=(1,) if unsafe else (0,),
            text="unsafe" if unsafe else "safe",
            finish_reason="stop",
            log_prob=math.log(risk) if unsafe else math.log1p(-risk),
        )


@dataclass(frozen=True)
class WordJudge:
    """Scores 1 where the response is "unsafe", else 0; `missing_ids` get no verdict at all."""

    missing_ids: frozenset[str] = frozenset()
    id: str = "word"
    threshold: float = 0.5

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        return [
            Verdict(None, "the judge refused")
            if exchange.prompt.id in self.missing_ids
            else Verdict(float(exchange.response == "unsafe"))
            for exchange in exchanges
        ]
