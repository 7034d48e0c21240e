"""What a server honours, found out by asking it: servers silently ignore what they cannot do.

A few short requests on one harmless prompt. What is not honoured is emulated where that is honest
(`n` by repeated requests, `stop` by cutting), and refused where it is not: a server whose draws at
temperature 1 do not differ, or that does not stop at `max_tokens`, measures something else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from tailbound.errors import UsageError

TOKENS = 24
DRAWS = 4

NEUTRAL: tuple[dict[str, float], ...] = (
    {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0},
    {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    {},
)
"""Ways to switch off what servers truncate and penalise by default: llama.cpp keeps the 40 most
likely tokens and drops those below .05 of the first unless told otherwise, and vLLM follows the
model's generation_config. Hosted APIs refuse parameters that they do not know."""

Ask = Callable[..., Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """True where the server honours an option; None where it could not be told."""

    random: bool
    neutral: bool
    n: bool
    seed: bool
    temperature: bool
    stop: bool | None
    max_tokens: bool
    log_probs: bool

    def to_dict(self) -> dict[str, bool | None]:
        """Plain values."""
        return asdict(self)

    @property
    def notices(self) -> tuple[str, ...]:
        """Lines that a person should see."""
        found = []
        if not self.neutral:
            found.append(
                "the server takes no top_k, min_p or repetition_penalty: if it has defaults of its "
                "own, they are part of what is measured"
            )
        if not self.n:
            found.append("the server ignores n: every draw is a request of its own")
        if not self.seed:
            found.append("the server ignores seed: a resume continues, but repeats no draw")
        if self.stop is False:
            found.append("the server ignores stop: responses are cut here, and cost more tokens")
        if not self.log_probs:
            found.append("the server gives no log-probabilities")
        return tuple(found)


async def probe(ask: Ask, *, name: str, neutral: bool) -> Findings:
    """Ask the server; `neutral` says whether it takes the options of `NEUTRAL`.

    Raises `UsageError` where it cannot be trusted. `ask(**options)` sends the probe's prompt with
    the options given (`n`, `seed`, `temperature`, `max_tokens`, `stop`, `logprobs`) and returns the
    choices as {"text", "finish", "log_probs", "tokens"}.
    """
    many = await ask(n=DRAWS, seed=1, temperature=1.0, max_tokens=TOKENS)
    honours_n = len(many) == DRAWS
    texts = [one["text"] for one in many]
    for seed in range(2, 2 + (0 if honours_n else DRAWS - 1)):
        texts += [one["text"] for one in await ask(seed=seed, temperature=1.0, max_tokens=TOKENS)]
    again = [(await ask(seed=7, temperature=1.0, max_tokens=TOKENS))[0]["text"] for _ in range(3)]
    varied = [
        (await ask(seed=seed, temperature=1.0, max_tokens=TOKENS))[0]["text"]
        for seed in (101, 102, 103)
    ]
    if len({*texts, *again, *varied}) == 1:
        raise UsageError(
            f"{name} gives the same text for every draw at temperature 1: it does not sample (for "
            "transformers serve set do_sample in the model's generation_config)"
        )
    cold = [
        (await ask(seed=seed, temperature=0.0, max_tokens=8))[0]["text"] for seed in (201, 202, 203)
    ]
    temperature = len(set(cold)) == 1
    if not temperature:
        raise UsageError(
            f"{name} gives different texts at temperature 0 ({cold[0][:30]!r}, {cold[1][:30]!r}): "
            "it ignores the temperature, so it is not known what is sampled"
        )
    short = (await ask(seed=7, temperature=1.0, max_tokens=1))[0]
    long = max([*texts, *again, *varied], key=len)
    too_long = short["tokens"] is not None and short["tokens"] > 2
    if too_long or (len(short["text"]) >= len(long) and len(long.split()) > 2):
        raise UsageError(
            f"{name} ignores max_tokens (asked for 1 token, got {short['text'][:40]!r})"
        )
    return Findings(
        random=True,
        neutral=neutral,
        n=honours_n,
        seed=len(set(again)) == 1 and len(set(varied)) > 1,
        temperature=temperature,
        stop=await _stops(ask, [*texts, *again, *varied]),
        max_tokens=True,
        log_probs=(await ask(seed=7, temperature=1.0, max_tokens=4, logprobs=True))[0]["log_probs"]
        is not None,
    )


async def _stops(ask: Ask, texts: list[str]) -> bool | None:
    """Whether a character that nearly every text holds ends the text."""
    common = [c for c in " eaoit" if sum(c in text for text in texts) > len(texts) / 2]
    if not common:
        return None
    for seed in (301, 302, 303):
        text = (await ask(seed=seed, temperature=1.0, max_tokens=TOKENS, stop=[common[0]]))[0][
            "text"
        ]
        if common[0] in text.strip():
            return False
    return True
