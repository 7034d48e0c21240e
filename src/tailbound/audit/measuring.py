"""What draws of a target take, from a few of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tailbound.core.contract import Draw, DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.targets import Target
from tailbound.targets.capabilities import CountsTokens

PROBE_DRAWS = 64


class _Probe:
    """A source of a few draws of a few prompts."""

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self._left = [
            DrawRequest(prompt=prompts[i % len(prompts)], stream="probe", index=1 + i)
            for i in range(PROBE_DRAWS)
        ]

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        """The next requests; nothing ever comes later."""
        taken, self._left = self._left[:limit], self._left[limit:]
        return taken


def _spread(prompts: Sequence[Prompt]) -> list[Prompt]:
    """At most `PROBE_DRAWS` prompts, from the shortest to the longest."""
    ranked = sorted(prompts, key=lambda prompt: sum(len(text) for _, text in prompt.messages))
    if len(ranked) <= PROBE_DRAWS:
        return ranked
    return [ranked[(2 * i + 1) * len(ranked) // (2 * PROBE_DRAWS)] for i in range(PROBE_DRAWS)]


def _prompt_tokens(target: Target, prompts: Sequence[Prompt]) -> int:
    return int(target.prompt_tokens(prompts).sum()) if prompts else 0


def measure(
    target: Target, prompts: Sequence[Prompt], seed: int
) -> tuple[float, float, float, list[Draw]]:
    """(tokens per draw, prompt tokens counted for each one expected, draws per second, draws).

    From `PROBE_DRAWS` draws of prompts of all lengths, in a stream of their own; nothing is kept.
    A server counts the prompt its own way, and once for several draws of one request.
    """
    prompts = _spread(prompts)
    list(target.sample(_Probe(prompts[:1]), seed=seed))  # the first call also warms up
    started = time.perf_counter()
    # several draws of one request may be counted together
    usage = target.usage if isinstance(target, CountsTokens) else None
    before = (0, 0) if usage is None else (usage.tokens_in, usage.tokens_out)
    drawn = list(target.sample(_Probe(prompts), seed=seed))
    rate = len(drawn) / (time.perf_counter() - started)
    if usage is None:
        return sum(draw.tokens or 0 for draw in drawn) / len(drawn), 1.0, rate, drawn
    asked = [prompts[i % len(prompts)] for i in range(PROBE_DRAWS)]
    counted = (usage.tokens_in - before[0]) / max(1, _prompt_tokens(target, asked))
    return (usage.tokens_out - before[1]) / len(drawn), counted, rate, drawn
