"""Verdicts on record, judged again by judges that need no model and run no code of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tailbound.core.prompt import Prompt
from tailbound.judges import Exchange, Judge
from tailbound.runs.draws import draw_store
from tailbound.runs.prompts import kept_table
from tailbound.workflows.rejudge.verdicts import Key
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.prompts import prompts_of
from tailbound.workflows.verify.result import Difference

BATCH = 1024
"""Exchanges that a judge gets at once."""


def check_verdicts(
    findings: Findings,
    name: str,
    judge: Judge,
    *,
    others: Mapping[Key, float | None] | None = None,
) -> None:
    """Compare the verdicts on record with what `judge` says of the same replies now.

    Those of the ledger, or `others` by draw. Missing ones are left out: why a verdict was missing
    then does not follow from the reply.
    """
    again = _Again(findings, judge, others)
    wrong = list(again)
    if again.without:
        findings.not_recomputed(
            f"{name} (no text)", f"{again.without:,} draws with a verdict have no text on record"
        )
    if again.judged:
        findings.compare(name, wrong, against=f"{judge.id} on {again.judged:,} replies")


class _Again:
    """The draws on which the judge now says something else; counts what was judged."""

    def __init__(
        self, findings: Findings, judge: Judge, others: Mapping[Key, float | None] | None
    ) -> None:
        self._folder = findings.folder
        self._judge, self._others = judge, others
        self.judged = self.without = 0

    def __iter__(self) -> Iterator[Difference]:
        prompts = prompts_of(kept_table(self._folder))
        columns = ("stream", "prompt_id", "index", "score", "text")
        for _, frame in draw_store(self._folder).frames():
            waiting: list[tuple[Key, float, Exchange]] = []
            for stream, name, index, score, text in frame.select(columns).iter_rows():
                key = (stream, name, index)
                held = score if self._others is None else self._others.get(key)
                if held is None:
                    continue
                if text is None:
                    self.without += 1
                    continue
                prompt = prompts.get(name) or Prompt(id=name, messages=())
                if not prompt.messages:  # imported without it
                    prompt = Prompt(id=name, messages=(("user", ""),))
                waiting.append((key, held, Exchange(prompt, text)))
            for start in range(0, len(waiting), BATCH):
                yield from self._compare(waiting[start : start + BATCH])

    def _compare(self, some: list[tuple[Key, float, Exchange]]) -> Iterator[Difference]:
        verdicts = self._judge.judge([exchange for _, _, exchange in some])
        self.judged += len(some)
        for ((stream, name, index), held, _), verdict in zip(some, verdicts, strict=True):
            if verdict.score != held:
                yield Difference(
                    place=f"{stream}, prompt {name!r}, draw {index}",
                    recorded=held,
                    found="missing" if verdict.score is None else verdict.score,
                )
