"""What goes between the process of a run and its workers: plain values, small and quick to pack.

Both ends are processes of one run and one installation, joined by a socket that only they hold (or
by Ray), so values are pickled. What models and people wrote travels as text inside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tailbound.core.contract import Beginning, Draw, DrawRequest, SamplingOptions
from tailbound.core.prompt import Prompt
from tailbound.errors import JudgeError, LedgerError, TailboundError, TargetError, UsageError


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What a worker loads: the target and the judge of a run, by their names."""

    target: str
    options: SamplingOptions
    engine: dict[str, Any] = field(default_factory=dict)
    judge: str | None = None
    threshold: float | None = None


class Asked(NamedTuple):
    """A `DrawRequest`; prompts are sent once and named by number."""

    prompt: int
    stream: str
    number: int
    segments: tuple[tuple[int, int], ...]
    beginning: Beginning | None


class Drawn(NamedTuple):
    """A `Draw`, likewise."""

    prompt: int
    number: int
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    log_prob: float
    counted: int | None
    missing: str | None


class Work(NamedTuple):
    """What a worker did since it was last asked."""

    draws: int = 0
    tokens: int = 0
    positions: int = 0


class Finished(NamedTuple):
    """The answer of a worker that samples; `ended`: it stopped, with `failure` if that is why."""

    drawn: list[Drawn]
    work: Work
    ended: bool
    failure: tuple[str, str] | None


def request_of(asked: Asked, prompts: Sequence[Prompt]) -> DrawRequest:
    """The request that was asked for."""
    return DrawRequest(
        prompt=prompts[asked.prompt],
        stream=asked.stream,
        index=asked.number,
        segments=asked.segments,
        beginning=asked.beginning,
    )


def drawn_of(draw: Draw, prompt: int) -> Drawn:
    """A draw on its way."""
    return Drawn(
        prompt,
        draw.index,
        draw.token_ids,
        draw.text,
        draw.finish_reason,
        draw.log_prob,
        draw.counted,
        draw.missing,
    )


def draw_of(drawn: Drawn, request: DrawRequest) -> Draw:
    """The draw that `request` asked for, as it arrived."""
    return Draw(
        prompt_id=request.prompt.id,
        stream=request.stream,
        index=drawn.number,
        token_ids=drawn.token_ids,
        text=drawn.text,
        finish_reason=drawn.finish_reason,  # type: ignore[arg-type]
        log_prob=drawn.log_prob,
        counted=drawn.counted,
        missing=drawn.missing,
    )


_KINDS = {one.__name__: one for one in (UsageError, JudgeError, LedgerError, TargetError)}


def packed(error: BaseException) -> tuple[str, str]:
    """An error as (kind, message): an exception of a library may not survive the way."""
    for kind, one in _KINDS.items():
        if isinstance(error, one):
            return kind, str(error)
    return "TargetError", f"a worker failed: {type(error).__name__}: {str(error).splitlines()[:1]}"


def unpacked(kind: str, message: str) -> TailboundError:
    """The error that was packed."""
    return _KINDS.get(kind, TargetError)(message)
