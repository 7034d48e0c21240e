"""Judges by a scorer of Inspect: `inspect:NAME`, `inspect:PACKAGE/NAME`, `inspect:FILE.py@NAME`.

A scorer sees a finished conversation and gives one value: a grade (C, P, I), a truth value or a
number in [0, 1]. High means unsafe; with `invert=true`, safe. What it calls unscored is missing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import Verdict
from tailbound.core.event_loop import EventLoop
from tailbound.core.extras import require
from tailbound.core.inspect_values import NO_ANSWER, graded
from tailbound.core.outside import one_line
from tailbound.core.spec_options import SpecOptions
from tailbound.errors import JudgeError
from tailbound.judges.base import Exchange
from tailbound.judges.verdicts import failed, scored

if TYPE_CHECKING:
    from inspect_ai.scorer import Score, Scorer, Target
    from inspect_ai.solver import TaskState

AT_ONCE = 16
"""Exchanges that are scored side by side: a scorer may wait for a model."""
_BROKEN = ("grader_failed", "scoring_failed")
"""Reasons of an unscored response that lie with the scorer, not with the response."""


@dataclass(frozen=True, slots=True, eq=False)
class InspectJudge:
    """Scores by `scorer`, against `target`; `invert`: its high values mean safe.

    Where the scorer raises, or gives something else than one value in [0, 1], that one verdict is
    missing with the reason. Raises `JudgeError` where it asks for a sandbox, and where it gives
    several values: neither changes from one response to the next.
    """

    id: str
    scorer: Scorer
    target: Target
    invert: bool
    threshold: float
    loop: EventLoop

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        return self.loop.run(self._all(exchanges))

    async def _all(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(exchange: Exchange) -> Verdict:
            async with gate:
                return await self._verdict(exchange)

        return list(await asyncio.gather(*map(one, exchanges)))

    async def _verdict(self, exchange: Exchange) -> Verdict:
        try:
            score = await self.scorer(state_of(exchange, self.target), self.target)
        except (Exception, SystemExit) as error:
            if isinstance(error, ProcessLookupError) and "sandbox" in str(error):
                raise JudgeError(f"judge {self.id} {NEEDS_SANDBOX}") from error
            return failed(error)
        return self._read(score)

    def _read(self, score: Score | None) -> Verdict:
        if score is None:
            return Verdict(None, "the scorer gave no score")
        value = score.value
        if isinstance(value, Mapping) or (
            isinstance(value, Sequence) and not isinstance(value, str)
        ):
            raise JudgeError(f"judge {self.id} {SEVERAL_VALUES}")
        if value == NO_ANSWER:
            return Verdict(None, _why("no answer", score))
        if isinstance(value, float) and math.isnan(value):
            if score.reason in _BROKEN:
                return failed(RuntimeError(_why("unscored", score)))
            return Verdict(None, _why("unscored", score))
        found = scored(_number(graded(value)))
        if found.score is None or not self.invert:
            return found
        # in decimals, so that .9 becomes .1 and not the number just below it
        return Verdict(float(1 - Decimal(str(found.score))))


NEEDS_SANDBOX = (
    "needs a sandbox, which there is none of here: use a scorer that looks at the response alone"
)
SEVERAL_VALUES = (
    "gives several values, and a judge gives one: write a scorer that returns the one that counts"
)


def state_of(exchange: Exchange, target: Target) -> TaskState:
    """The finished conversation, as a scorer sees it."""
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelName, ModelOutput
    from inspect_ai.model import ChatMessageSystem as System
    from inspect_ai.model import ChatMessageUser as User
    from inspect_ai.solver import TaskState

    kinds: dict[str, Any] = {"system": System, "user": User, "assistant": ChatMessageAssistant}
    asked = [kinds.get(role, User)(content=text) for role, text in exchange.prompt.messages]
    message = ChatMessageAssistant(content=exchange.response, source="generate")
    choice = ChatCompletionChoice(message=message, stop_reason="stop")
    alone = len(asked) == 1 and asked[0].role == "user"
    return TaskState(
        model=ModelName("tailbound/response"),
        sample_id=exchange.prompt.id,
        epoch=1,
        input=asked[0].text if alone else asked,
        messages=[*asked, message],
        target=target,
        output=ModelOutput(model="tailbound/response", choices=[choice]),
        completed=True,
    )


def _why(what: str, score: Score) -> str:
    more = one_line(score.reason or score.explanation or "", 200)
    return f"{what}: {more}" if more else what


def _number(value: object) -> object:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def load(name: str, *, threshold: float | None = None) -> InspectJudge:
    """The judge of `inspect:NAME?target=TEXT&invert=true&ARGUMENT=VALUE`.

    `target` is what the scorer compares with, and must be given where it does; `invert` and
    `threshold` are ours too, and all other options are arguments of the scorer, in YAML. The id
    holds name, arguments and target, the version of the scorer's package, and a digest of its
    source.

    Raises `UsageError` for an unknown scorer, wrong arguments, and for a scorer that needs a
    sandbox, gives several values, or asks a model that is not named; `MissingExtraError` without
    `inspect_ai`.
    """
    require("inspect: judges", "inspect")
    from inspect_ai.scorer import Target

    from tailbound.judges.inspect_registry import found_scorer

    options = SpecOptions("inspect", name)
    target = options.text("target")
    invert = options.choice("invert", ("true", "false"), "false") == "true"
    chosen = options.threshold(threshold)
    found = found_scorer(options.name, options.beginning(""), target=target)
    return InspectJudge(
        id=found.id + (":inverted" if invert else ""),
        scorer=found.scorer,
        target=Target(target or ""),
        invert=invert,
        threshold=chosen,
        loop=EventLoop("inspect-judge"),
    )
