"""What a server has been asked, what that cost, and the limit on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tailbound.core.outside import REPLACEMENT
from tailbound.errors import TargetError
from tailbound.targets.endpoint.answers import Answer
from tailbound.targets.endpoint.settings import EndpointSettings


@dataclass(slots=True)
class Usage:
    """Counts so far, the probe included.

    `retries` are requests sent again, `uncounted` answers without token counts, `content_filter`
    responses that the server's content filter withheld, `damaged` those with U+FFFD in place of
    bytes or halves of characters that are not text.
    """

    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    uncounted: int = 0
    content_filter: int = 0
    damaged: int = 0


class SpendLimit:
    """Keeps the cost below the limit, whatever requests in flight may turn out to cost.

    Before a request is sent, the most that it can cost is held; when it is answered, that is
    given back and what it did cost is added. What an attempt cost that was never answered is not
    known: it counts at its most. `answers` counts the answers so far.
    """

    def __init__(self, settings: EndpointSettings, usage: Usage) -> None:
        self._settings = settings
        self._usage = usage
        self._lock = threading.Lock()
        self._held = 0.0
        self._before = 0.0
        self._unknown = 0.0
        self.answers = 0

    @property
    def spent(self) -> float:
        """Everything so far, in the currency of the prices."""
        known = self._settings.cost(self._usage.tokens_in, self._usage.tokens_out)
        return self._before + self._unknown + known

    @property
    def held(self) -> float:
        """The most that open requests may cost."""
        return max(0.0, self._held)

    def carry(self, cost: float) -> None:
        """Take into account what earlier processes spent on the same run."""
        self._before += cost

    def hold(self, most: float) -> bool:
        """Set `most` aside; False, and nothing set aside, where that would exceed the limit."""
        limit = self._settings.max_cost
        with self._lock:
            # a relative 1e-9: sums of many small costs are not exact
            if limit is not None and self.spent + self._held + most > limit * (1 + 1e-9):
                return False
            self._held += most
        return True

    def answered(self, answer: Answer, most: float) -> None:
        """Account for an answer."""
        usage = self._usage
        usage.content_filter += sum(choice.content_filter is not None for choice in answer.choices)
        usage.damaged += sum(REPLACEMENT in choice.text for choice in answer.choices)
        known = answer.tokens_in is not None and answer.tokens_out is not None
        with self._lock:
            self.answers += 1
            usage.tokens_in += answer.tokens_in or 0
            usage.tokens_out += answer.tokens_out or 0
            usage.uncounted += not known
            self._held -= most
            if not known:
                self._unknown += most

    def lost(self, most: float) -> None:
        """Account for an attempt that may have been worked on, and was never answered."""
        self.released(most)
        with self._lock:
            self._unknown += most

    def released(self, most: float) -> None:
        """Give back what was set aside for an attempt that cost nothing."""
        with self._lock:
            self._held -= most

    def exceeded(self, most: float) -> TargetError:
        """The error that says that the limit is reached."""
        return TargetError(
            f"--max-cost {self._settings.max_cost:g} is reached: {self.spent:.4g} is spent, and "
            f"the next request may cost {most:.4g}; finished draws are kept, the same command "
            "with a higher limit continues from here"
        )
