"""A target and a judge that are only what the record says of them: they draw and judge nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import Draw, SamplingContract, Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import TailboundError
from tailbound.judges import Exchange
from tailbound.storage.plain import from_plain
from tailbound.targets.base import DrawSource

T = TypeVar("T")


class MissingDrawsError(TailboundError):
    """A result rests on draws that are not on record."""


@dataclass(frozen=True, kw_only=True)
class RecordedTarget:
    """The target of a run, as far as `run.yaml` describes it."""

    contract: SamplingContract
    reproducible: str = "distribution"

    def sample(self, source: DrawSource, *, seed: int) -> Iterator[Draw]:
        """Nothing; raises `MissingDrawsError` where a draw is asked for."""
        asked = source.take(1, wait=True)
        if asked:
            first = asked[0]
            raise MissingDrawsError(
                f"draw {first.index} of prompt {first.prompt.id!r} in stream {first.stream!r} is "
                "not on record: shards were removed, or the run is not finished"
            )
        return iter(())

    def prompt_tokens(self, prompts: Sequence[Prompt]) -> NDArray[np.int64]:
        """Zeros: they are not known here, shape (len(prompts),)."""
        return np.zeros(len(prompts), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class RecordedJudge:
    """A judge whose verdicts are on record.

    `deterministic` says that they are a function of the reply, `graded` that they are grades.
    """

    id: str
    threshold: float
    deterministic: bool = False
    graded: bool = True

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Raises `MissingDrawsError`: what is not on record is not judged."""
        raise MissingDrawsError(
            f"{len(exchanges)} verdicts of {self.id} are not on record: the run is not finished"
        )


def settings_of(kind: type[T], options: Mapping[str, Any]) -> T:
    """The dataclass `kind` from the fields of it among `options`, as `run.yaml` has them.

    Raises `KeyError` where one without a default is missing, `TypeError` for another type, and
    what the dataclass raises.
    """
    hints = get_type_hints(kind)
    values = {}
    for one in fields(kind):  # type: ignore[arg-type]
        if one.name in options:
            values[one.name] = from_plain(hints[one.name], options[one.name])
        elif one.default is MISSING:
            raise KeyError(one.name)
    return kind(**values)
