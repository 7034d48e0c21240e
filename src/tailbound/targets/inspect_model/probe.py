"""What a model behind Inspect honours: providers leave out in silence what theirs does not take.

One response as the run will ask for them, then some twenty short ones on the same harmless prompt,
all at once. A model whose draws do not differ, or that does not heed what the contract says
(temperature, top-p, top-k, the longest response), measures something else and is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from tailbound.errors import TargetError, UsageError
from tailbound.targets.endpoint.answers import Answer
from tailbound.targets.endpoint.probe import PROMPT, TOKENS
from tailbound.targets.endpoint.thoughts import style
from tailbound.targets.inspect_model.asking import Asking

_HOT, _COLD, _FEW = 8, 6, 3
_COLD_TEMPERATURE = 1e-3
_SMALL_MASS = 1e-3


@dataclass(frozen=True, kw_only=True)
class Found:
    """True where the model honours an option, None where that could not be determined.

    `served` are the names that it answers by; `thinking` and `opening` are as in
    `tailbound.targets.endpoint.thoughts.style`.
    """

    temperature: bool | None
    max_tokens: bool | None
    served: tuple[str, ...]
    thinking: str | None
    opening: str | None

    @property
    def notices(self) -> tuple[str, ...]:
        """Lines that a person should see."""
        unknown = [
            name
            for name, value in (
                ("temperature", self.temperature),
                ("longest response", self.max_tokens),
            )
            if value is None
        ]
        if not unknown:
            return ()
        return (f"whether the model heeds the {' and the '.join(unknown)} is not known",)


async def probe(asking: Asking) -> Found:
    """What the model honours; `UsageError` where a run could not be trusted."""
    name, options = f"inspect-model:{asking.name}", asking.options
    first = await asking.ask(PROMPT)
    thinks = style(first.choices)[0] is not None  # of which a few tokens show nothing
    brief = {} if thinks else {"max_tokens": min(TOKENS, options.max_new_tokens)}
    calls: dict[str, list[Awaitable[Answer | None]]] = {
        "hot": [asking.ask(PROMPT, **brief) for _ in range(_HOT)],
        "cold": [
            _tried(asking.ask(PROMPT, temperature=_COLD_TEMPERATURE, **brief)) for _ in range(_COLD)
        ],
    }
    if options.top_k is not None:
        calls["top-k"] = [asking.ask(PROMPT, top_k=1, **brief) for _ in range(_FEW)]
    if options.top_p < 1:
        calls["top-p"] = [asking.ask(PROMPT, top_p=_SMALL_MASS, **brief) for _ in range(_FEW)]
    answers = {kind: await _gathered(group) for kind, group in calls.items()}
    everyone = [first, *(one for group in answers.values() for one in group)]
    thinking, opening = style([choice for one in everyone for choice in one.choices])
    hot = _texts(answers["hot"])
    _check_endings(answers["hot"], name)
    _check_random(hot, name)
    for kind in ("top-k", "top-p"):
        if kind in answers and len(set(_texts(answers[kind]))) > 1:
            raise UsageError(
                f"{name} ignores {kind}, or Inspect's provider does not send it: a value that "
                f"leaves one token gives different texts; leave --{kind} out"
            )
    return Found(
        temperature=_temperature(
            _texts(answers["cold"]), hot, name, thinking=thinking, asked=options.temperature
        ),
        max_tokens=_max_tokens(answers["hot"], brief.get("max_tokens"), name),
        served=tuple(sorted({one.model for one in everyone if one.model is not None})),
        thinking=thinking,
        opening=opening,
    )


async def _tried(call: Awaitable[Answer]) -> Answer | None:
    try:
        return await call
    except TargetError:
        return None


async def _gathered(calls: Sequence[Awaitable[Answer | None]]) -> list[Answer]:
    return [one for one in await asyncio.gather(*calls) if one is not None]


def _texts(answers: Sequence[Answer]) -> list[str]:
    return [one.choices[0].thought + one.choices[0].text for one in answers]


def _share(texts: Sequence[str]) -> float:
    """The share of the commonest text."""
    return Counter(texts).most_common(1)[0][1] / len(texts)


def _check_endings(answers: Sequence[Answer], name: str) -> None:
    reasons = [one.choices[0].incomplete for one in answers]
    if all(reasons):
        raise UsageError(f"no response of {name} could be judged: {reasons[0]}")


def _check_random(texts: Sequence[str], name: str) -> None:
    if not any(texts):
        raise UsageError(
            f"{name} gave {len(texts)} empty responses to {PROMPT.text!r}: nothing can be measured"
        )
    if len(set(texts)) == 1:
        raise UsageError(
            f"{name} gives the same text for every draw ({texts[0][:40]!r}): it does not sample"
        )


def _temperature(
    cold: Sequence[str], hot: Sequence[str], name: str, *, thinking: str | None, asked: float
) -> bool | None:
    """Whether draws next to temperature 0 are alike; a server's batching may make a few differ.

    A model that thinks may not heed it, which is the same where it is 1.
    """
    if len(cold) < _COLD or not any(cold):
        if asked != 1:
            raise UsageError(
                f"{name} does not answer next to temperature 0, so that nothing shows whether it "
                f"heeds a temperature of {asked:g}: use --temperature 1"
            )
        return None
    if _share(cold) < 0.5:
        if thinking is not None and asked == 1:
            return False
        raise UsageError(
            f"{name} ignores the temperature, or Inspect's provider does not send it: "
            f"{len(set(cold))} different texts in {len(cold)} draws next to temperature 0"
        )
    return True if _share([text[:8] for text in hot]) < 0.5 else None


def _max_tokens(answers: Sequence[Answer], limit: int | None, name: str) -> bool | None:
    """Whether responses end at the limit; some servers count the end of a response as a token."""
    if limit is None:
        return None
    over = [one for one in answers if (one.tokens_out or 0) - one.tokens_thought > limit + 1]
    if over:
        raise UsageError(
            f"{name} ignores the longest response: asked for {limit} tokens it gave "
            f"{over[0].tokens_out}"
        )
    cut = any(one.choices[0].length for one in answers)
    return True if cut and all(one.tokens_out is not None for one in answers) else None
