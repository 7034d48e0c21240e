"""Replies of the chat model, kept beside the file of wordings as they come.

wordings.jsonl.draws/    a record of draws: repeated, the command asks only for what is missing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tailbound.core.contract import DrawRequest, Verdict
from tailbound.core.outside import clean_text, is_clean
from tailbound.core.prompt import Prompt
from tailbound.core.steps import Step, charged_to
from tailbound.runs import Ledger, read
from tailbound.targets import Target
from tailbound.workflows.paraphrase.replies import VERSION, Reply

STREAM = "rewording"
JUDGE = f"rewording/{VERSION}"
"""Stands where the record names a judge: there is none; the instruction is part of a draw."""
NOT_JUDGED = "not judged: a rewording"


def folder_of(out: Path) -> Path:
    """The folder of the replies that the file `out` rests on."""
    return out.with_name(f"{out.name}.draws")


class Replies:
    """The replies to questions, by the id of the question and the number of the draw."""

    def __init__(self, target: Target, ledger: Ledger, *, seed: int) -> None:
        """Read what is on record."""
        self._target, self._ledger, self._seed = target, ledger, seed
        self._held: dict[str, dict[int, Reply]] = {}
        self._read()

    def first(self, question: Prompt, draws: int) -> list[Reply]:
        """Replies 1 .. draws to a question, which must be on record."""
        held = self._held.get(question.id, {})
        return [held[index] for index in range(1, draws + 1)]

    def lacking(self, wanted: Sequence[tuple[Prompt, int]]) -> list[DrawRequest]:
        """What is to be drawn so that `wanted` draws of each question are on record."""
        return [
            DrawRequest(prompt=question, stream=STREAM, index=index)
            for question, draws in wanted
            for index in range(1, draws + 1)
            if index not in self._held.get(question.id, {})
        ]

    def draw(self, requests: Sequence[DrawRequest], now: Step) -> None:
        """Make draws; each is kept as it comes, whatever happens to those that follow."""
        if not requests:
            return
        try:
            with charged_to(STREAM):
                for draw in self._target.sample(_Requests(requests), seed=self._seed):
                    if not is_clean(draw.text):
                        draw = replace(draw, text=clean_text(draw.text))
                    reason = draw.missing or NOT_JUDGED
                    self._ledger.append(draw, Verdict(None, reason), "fixed")
                    now.advance()
        finally:
            self._ledger.flush()
        self._read()

    def _read(self) -> None:
        held: dict[str, dict[int, Reply]] = {}
        frame = read(self._ledger.folder, stream=STREAM)
        names = ("prompt_id", "index", "text", "finish_reason", "reason")
        for prompt, index, text, ended, reason in frame.select(names).iter_rows():
            held.setdefault(prompt, {})[index] = Reply(
                text=text or "", cut=ended == "length", missing=reason != NOT_JUDGED
            )
        self._held = held


class _Requests:
    """A source of draws that are known in advance."""

    def __init__(self, requests: Sequence[DrawRequest]) -> None:
        self._left = list(requests)

    def take(self, limit: int, *, wait: bool) -> list[DrawRequest]:
        """The next requests; nothing ever comes later."""
        taken, self._left = self._left[:limit], self._left[limit:]
        return taken
