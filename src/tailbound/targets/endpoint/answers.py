"""What a server answered: the responses of one request, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from tailbound.core.contract import FinishReason
from tailbound.targets.endpoint.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Choice:
    """One response. `tokens` counts it; `log_prob` is in nats. None: not known, or not in full.

    `content_filter` says why a content filter kept it back, `incomplete` why it cannot be taken for
    a whole response; None where neither is so. `thought` is what the model thought before, where
    the server keeps that apart; `hidden` says that it thought and that the server does not show
    what.
    """

    text: str
    length: bool
    tokens: int | None
    log_prob: float | None
    content_filter: str | None = None
    incomplete: str | None = None
    thought: str = ""
    hidden: bool = False

    def ending(
        self, missing: str | None, *, filtered_is_missing: bool = True
    ) -> tuple[FinishReason, str | None]:
        """How the draw of it ended, and why it has no verdict (None: it is to be judged).

        `missing` says why the reply in it cannot be judged. Unless `filtered_is_missing`, what a
        content filter left is judged.
        """
        if self.content_filter is not None and filtered_is_missing:
            return "content_filter", self.content_filter
        missing = self.incomplete or missing
        if missing is not None:
            return "incomplete", missing
        return ("length" if self.length else "stop"), None


@dataclass(frozen=True, slots=True)
class Answer:
    """The responses of one request; token counts are None where the server gives none.

    `model` and `fingerprint` are what it says of itself.
    """

    choices: tuple[Choice, ...]
    tokens_in: int | None
    tokens_out: int | None
    fingerprint: str | None
    has_log_probs: bool
    model: str | None = None
    tokens_thought: int = 0

    @classmethod
    def refused(cls, count: int, refusal: Refusal) -> Answer:
        """`count` responses that never came, because the server refuses the prompt."""
        filtered = refusal.kind == "filter"
        nothing = Choice(
            text="",
            length=False,
            tokens=None,
            log_prob=None,
            content_filter=refusal.reason if filtered else None,
            incomplete=None if filtered else refusal.reason,
        )
        return cls((nothing,) * count, None, None, None, False)

    @classmethod
    def cut_short(cls) -> Answer:
        """A response that was cut before the server showed any of it."""
        nothing = Choice("", length=True, tokens=None, log_prob=None, hidden=True)
        return cls((nothing,), None, None, None, False)
