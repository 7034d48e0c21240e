"""The risks of a finished run under another judge's verdicts: nothing is sampled.

The rounds on record are read as they are; only draws that are unsafe by the new verdicts alone are
scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tailbound.audit import silent
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.judges import Judge
from tailbound.runs import Ledger, StreamRecord
from tailbound.runs.layout import PLAN
from tailbound.runs.spend import stages_kept
from tailbound.workflows.risk.job import STREAM, RiskJob
from tailbound.workflows.risk.proposals.base import Proposals
from tailbound.workflows.risk.results import RiskResult, write_results, write_review
from tailbound.workflows.risk.settings import RiskSettings

Verdicts = Mapping[str, Mapping[int, float | None]]


def rejudge_risk(
    prompts: Sequence[Prompt],
    *,
    proposal: Proposals,
    judge: Judge,
    verdicts: Verdicts,
    recorded_judge: str,
    settings: RiskSettings,
    folder: Path,
    into: Path,
) -> RiskResult:
    """The estimates of the run in `folder` under the verdicts of another judge.

    `verdicts` are scores by prompt id and draw of the stream "risk", None where missing;
    `recorded_judge` is the id of the judge of the run. Nothing is sampled: draws that are unsafe by
    the new verdicts alone are scored. Results are written to `into`. Raises `UsageError` where the
    run is not finished or a draw was not judged.
    """
    threshold = settings.threshold if settings.threshold is not None else judge.threshold
    with (
        stages_kept(into),
        Ledger.open(
            folder,
            run=folder.name,
            contract=proposal.target.contract,
            judge_id=recorded_judge,
            seed=settings.seed,
        ) as ledger,
    ):
        run = _Rejudged(proposal, judge, settings, threshold, folder, ledger, silent)
        run.verdicts = verdicts
        run.prepare(prompts)
        result = run.result()
        write_results(into, result, command="risk --rejudge", options=settings.to_dict())
        rows = run.review(result)
        write_review(into, rows)
        return replace(result, reviewed=len(rows))


class _Rejudged(RiskJob):
    """A finished job with other verdicts: it draws nothing."""

    verdicts: Verdicts

    def _reasons(self) -> Sequence[str | None]:
        """Those of the recorded judge say nothing of this one."""
        return ()

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """As for any job that goes on; one that never drew has nothing to judge."""
        if not (self._folder / PLAN).is_dir():
            raise UsageError(f"{self._folder} has no finished run of tailbound risk: run it first")
        super().prepare(prompts)

    def next_round(self) -> bool:
        """Nothing more is drawn."""
        return False

    def _draw(self) -> dict[str, StreamRecord]:
        record = self._ledger.index(STREAM)
        found: dict[str, StreamRecord] = {}
        for prompt in self._prompts:
            planned = self._plan.draws(prompt.id)
            own = record.get(prompt.id)
            if own is None or own.indices.size < planned:
                raise UsageError(
                    f"{self._folder} is not finished (prompt {prompt.id!r} has "
                    f"{0 if own is None else own.indices.size} of {planned} draws): run the same "
                    "command without --rejudge first"
                )
            scores = self.verdicts.get(prompt.id, {})
            unjudged = [index for index in own.indices.tolist() if index not in scores]
            if unjudged:
                raise UsageError(
                    f"draw {unjudged[0]} of prompt {prompt.id!r} was not judged again: were its "
                    "text or verdict removed?"
                )
            given = [scores[index] for index in own.indices.tolist()]
            found[prompt.id] = replace(own, scores=np.array(given, dtype=np.float64))
        return found
