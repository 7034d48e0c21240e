"""Which draws are still worth asking for, decided anew with every verdict.

A prompt is to be followed to its horizon: draws 1 .. horizon. Where the stream stops at the first
event (an unsafe draw, or one whose verdict is missing), draws after the earliest event seen so far
are no longer asked for; those before it still are, because draws finish out of order. What comes
out, the index of the first event, therefore depends on the draws alone and never on the order in
which they finished, on the batch size or on a resume.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tailbound.core.contract import Beginning, DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.missing_verdicts import unsafe_or_missing
from tailbound.runs import StreamRecord


class Script(Protocol):
    """Who speaks in each draw of a stream whose draws are made by proposals."""

    def segments(self, prompt_id: str, index: int) -> tuple[tuple[int, int], ...]:
        """The `segments` of that draw's request."""
        ...

    def proposal(self, prompt_id: str, index: int) -> str | None:
        """The id of the distribution that it is drawn from, None for the target itself."""
        ...


@runtime_checkable
class ContinuingScript(Script, Protocol):
    """A script in which some draws continue the beginning of an earlier one."""

    def beginning(self, prompt_id: str, index: int) -> Beginning | None:
        """What that draw continues, None for one from the start."""
        ...


_NONE: frozenset[int] = frozenset()
"""Of a million prompts hardly any has a set of its own."""


class PromptProgress:
    """One prompt on its way to its horizon."""

    __slots__ = ("beyond", "event", "horizon", "in_flight", "issued", "judged_to", "missing")

    def __init__(self) -> None:
        self.horizon = 0
        self.event = 0  # index of the earliest event seen so far; 0: none
        self.missing = False  # whether that event is a missing verdict
        self.judged_to = 0  # draws 1 .. judged_to are all judged
        self.beyond: set[int] | frozenset[int] = _NONE  # judged draws after judged_to
        self.issued = 0  # every draw up to here is judged or in flight
        self.in_flight = 0

    def _own(self) -> set[int]:
        """`beyond`, as a set that may grow."""
        if not isinstance(self.beyond, set):
            self.beyond = set()
        return self.beyond

    def found(self, index: int) -> None:
        """Draw `index`, behind a gap, is on record."""
        self._own().add(index)

    def limit(self, stop_at_event: bool) -> int:
        """The last draw that is still worth having."""
        if stop_at_event and self.event:
            return min(self.horizon, self.event)
        return self.horizon

    def next_index(self, stop_at_event: bool) -> int:
        """The next draw to ask for, 0 if none is left to ask for."""
        limit = self.limit(stop_at_event)
        index = self.issued + 1
        while index in self.beyond:
            index += 1
        self.issued = index - 1
        return index if index <= limit else 0

    def to_come(self, stop_at_event: bool) -> int:
        """How many draws are still to be asked for, if no further event is seen."""
        limit = self.limit(stop_at_event)
        if self.issued >= limit:
            return 0
        return limit - self.issued - sum(self.issued < index <= limit for index in self.beyond)

    def judged(self, index: int, *, event: bool, missing: bool) -> None:
        """Take note of the verdict on draw `index`."""
        if event and (self.event == 0 or index < self.event):
            self.event, self.missing = index, missing
        if index == self.judged_to + 1 and not self.beyond:
            self.judged_to = index
        else:
            beyond = self._own()
            beyond.add(index)
            while self.judged_to + 1 in beyond:
                self.judged_to += 1
                beyond.remove(self.judged_to)
        self.issued = max(self.issued, self.judged_to)


class Schedule:
    """The prompts of one stream, how far each is to be followed and how far it has come.

    `width` prompts are worked on at a time, the one with the fewest draws in flight first: a
    target with `width` rows then works on about one draw per prompt, and little is drawn beyond
    an event that is not yet known.

    `record` holds the draws of the stream that are finished, from the ledger: a resumed run skips
    them, because they are noted here as judged before anything is asked for.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        *,
        stream: str,
        threshold: float,
        stop_at_event: bool,
        width: int,
        record: dict[str, StreamRecord] | None = None,
        script: Script | None = None,
    ) -> None:
        self.prompts = tuple(prompts)
        self.script = script
        # asked once: it takes longer than everything else that is done for a draw
        self._continuing = script if isinstance(script, ContinuingScript) else None
        self.stream = stream
        self._threshold = threshold
        self._stop_at_event = stop_at_event
        self._width = width
        self._position = {prompt.id: i for i, prompt in enumerate(self.prompts)}
        self._pursuits = [PromptProgress() for _ in self.prompts]
        self._to_come = [0] * len(self.prompts)
        self._remaining = 0  # the sum of these
        self._waiting: list[int] = []  # positions not yet worked on, in reverse order
        self._open: list[tuple[int, int]] = []  # heap of (draws in flight, position)
        self._resume({name: r for name, r in (record or {}).items() if name in self._position})

    def _resume(self, record: dict[str, StreamRecord]) -> None:
        """Note the draws on record, of all prompts at once: there may be millions.

        Indices of a record are unique and rise. Those from 1 on without a gap are judged so far;
        only what comes after a gap is looked at one by one.
        """
        held = [(self._position[name], one) for name, one in record.items() if one.indices.size]
        if not held:
            return
        sizes = np.array([one.indices.size for _, one in held])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        indices = np.concatenate([one.indices for _, one in held])
        scores = np.concatenate([one.scores for _, one in held])
        in_row = indices == np.arange(len(indices)) - np.repeat(starts, sizes) + 1
        event = unsafe_or_missing(scores, self._threshold)
        never = np.iinfo(np.int64).max
        first = np.minimum.reduceat(np.where(event, indices, never), starts)
        judged = np.add.reduceat(in_row, starts, dtype=np.int64)
        missing = np.isnan(scores) & (indices == np.repeat(first, sizes))
        by_missing = np.logical_or.reduceat(missing, starts)
        rows = zip(held, judged.tolist(), first.tolist(), by_missing.tolist(), strict=True)
        for (position, _), judged_to, earliest, is_missing in rows:
            pursuit = self._pursuits[position]
            pursuit.judged_to = pursuit.issued = judged_to
            if earliest != never:
                pursuit.event, pursuit.missing = earliest, is_missing
        prompt_of = np.repeat([position for position, _ in held], sizes)
        for row in np.flatnonzero(~in_row).tolist():
            self._pursuits[prompt_of[row]].found(int(indices[row]))

    def extend(self, positions: NDArray[np.int64], horizons: NDArray[np.int64]) -> None:
        """Ask for the prompts at `positions` to be followed at least to `horizons`."""
        for position, horizon in zip(positions.tolist(), horizons.tolist(), strict=True):
            pursuit = self._pursuits[position]
            pursuit.horizon = max(pursuit.horizon, horizon)
            self._recount(position)
        self._waiting = [
            position
            for position in reversed(positions.tolist())
            if self._pursuits[position].next_index(self._stop_at_event)
        ]
        self._open = []

    def next_requests(self, limit: int) -> list[DrawRequest]:
        """Up to `limit` requests; fewer where verdicts must come in first, or nothing is left."""
        requests: list[DrawRequest] = []
        while len(requests) < limit:
            while self._waiting and len(self._open) < self._width:
                heapq.heappush(self._open, (0, self._waiting.pop()))
            if not self._open:
                break
            _, position = heapq.heappop(self._open)
            pursuit = self._pursuits[position]
            index = pursuit.next_index(self._stop_at_event)
            if not index:
                continue  # asked for in full, or stopped by an event
            pursuit.issued = index
            pursuit.in_flight += 1
            self._recount(position)
            heapq.heappush(self._open, (pursuit.in_flight, position))
            prompt = self.prompts[position]
            segments = () if self.script is None else self.script.segments(prompt.id, index)
            beginning = None
            if self._continuing is not None:
                beginning = self._continuing.beginning(prompt.id, index)
            requests.append(
                DrawRequest(
                    prompt=prompt,
                    stream=self.stream,
                    index=index,
                    segments=segments,
                    beginning=beginning,
                )
            )
        return requests

    def note(self, prompt_id: str, index: int, score: float | None) -> bool:
        """Take note of a verdict (None: missing); whether the draw was an event."""
        position = self._position[prompt_id]
        pursuit = self._pursuits[position]
        pursuit.in_flight -= 1
        return self._note(position, index, float("nan") if score is None else score)

    def _note(self, position: int, index: int, score: float) -> bool:
        """Record a verdict; a missing one is NaN."""
        event = bool(unsafe_or_missing(score, self._threshold))
        self._pursuits[position].judged(index, event=event, missing=score != score)
        self._recount(position)
        return event

    def _recount(self, position: int) -> None:
        """Bring the sum of the draws to come up to date after a change to one prompt."""
        now = self._pursuits[position].to_come(self._stop_at_event)
        self._remaining += now - self._to_come[position]
        self._to_come[position] = now

    def remaining(self) -> int:
        """The most draws that may still be asked for; no prompt is looked at for it."""
        return self._remaining

    def first_events(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the first event within the horizon, 0 where there is none; same shape.

        Raises `RuntimeError` where a prompt has not reached its horizon or its event.
        """
        found = np.zeros(len(positions), dtype=np.int64)
        for i, position in enumerate(positions.tolist()):
            pursuit = self._pursuits[position]
            if pursuit.judged_to < pursuit.limit(self._stop_at_event):
                raise RuntimeError(
                    f"prompt {self.prompts[position].id!r} has {pursuit.judged_to} judged draws "
                    f"of {pursuit.limit(self._stop_at_event)}"
                )
            if 0 < pursuit.event <= pursuit.horizon:
                found[i] = pursuit.event
        return found

    def stopped_by_missing(self) -> NDArray[np.bool_]:
        """Whether the earliest event of each prompt is a missing verdict, shape (prompts,)."""
        return np.array([bool(p.event) and p.missing for p in self._pursuits], dtype=np.bool_)
