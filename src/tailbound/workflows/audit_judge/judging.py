"""Labels from a better judge, kept so that none is asked for twice.

Its verdicts lie in `judge-audit/DIGEST/`, as those of `rejudge` lie in `verdicts/DIGEST/`, which
are used where they are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from tailbound.core.contract import Verdict
from tailbound.core.prompt import Prompt
from tailbound.errors import JudgeError
from tailbound.judges import Judge, is_failure
from tailbound.runs.layout import JUDGE_AUDIT
from tailbound.workflows.audit_judge.sample import JudgeSample
from tailbound.workflows.rejudge.job import Counters, judge_draws, verdicts_id
from tailbound.workflows.rejudge.record import wanted_draws
from tailbound.workflows.rejudge.verdicts import (
    Key,
    VerdictWriter,
    judge_digest,
    read_verdicts,
    verdicts_folder,
)


def judge_sample(
    folder: Path,
    sample: JudgeSample,
    judge: Judge,
    *,
    name: str,
    prompts: Mapping[str, Prompt] | None,
    report: Callable[[int, int], None],
) -> dict[str, bool | None]:
    """Label of every row of the sample by `judge`, None where it has no verdict.

    What it judged before is not asked again, but for what it failed on. Raises `JudgeError` where
    it fails on every draw that it was asked about.
    """
    judge_id = verdicts_id(judge, prompts)
    home = folder / JUDGE_AUDIT / judge_digest(judge_id)
    keys = {(one.stream, one.prompt_id, one.index): one.row for one in sample.rows}
    tally = Counters()
    with VerdictWriter(home, judge=name, judge_id=judge_id) as writer:
        known = _known(folder, home, judge_id)
        waiting = {key for key in keys if key not in known}
        report(0, len(waiting))
        judge_draws(
            wanted_draws(folder, waiting.__contains__, only_missing=False),
            judge,
            prompts,
            writer,
            tally,
            lambda: report(tally.asked, len(waiting)),
        )
    if tally.failed and tally.failed == tally.asked:
        raise JudgeError(
            f"judge {judge.id} failed on each of {tally.asked:,} draws ({tally.reason}): fix it, "
            "then run the same command again"
        )
    scores = _known(folder, home, judge_id)
    labels: dict[str, bool | None] = {}
    for key, row in keys.items():
        score = scores.get(key)
        # a score that is no number lies below every threshold, and is not safe
        labels[row] = None if score is None or math.isnan(score) else score >= judge.threshold
    return labels


def _known(folder: Path, home: Path, judge_id: str) -> dict[Key, float | None]:
    """Scores of the draws that this judge need not judge again, None for no verdict."""
    found: dict[Key, float | None] = {}
    for place in (verdicts_folder(folder, judge_id), home):
        for _, stream, prompt_id, index, score, reason in read_verdicts(place).iter_rows():
            if not is_failure(Verdict(score, reason)):
                found[stream, prompt_id, index] = score
    return found
