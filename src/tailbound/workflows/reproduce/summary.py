"""From the runs of a study to its result: errors, costs, z-scores and shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tailbound.core.prompt import Prompt
from tailbound.studies import (
    WANTED,
    Truth,
    deviation,
    draws_for,
    plain_draws,
    plain_error,
    predicted_share,
    relative_error,
    seen_share,
    tokens_for,
)
from tailbound.workflows.reproduce.results import (
    Need,
    Point,
    RunEstimate,
    ShareRow,
    StudyPrompt,
    StudyResult,
    StudyRun,
    summary_of,
)
from tailbound.workflows.reproduce.settings import BRUTE, Design
from tailbound.workflows.risk.proposals.registry import NONE

LONGEST_SHARE = 10_000
"""The k up to which the share of prompts with an unsafe output is predicted."""


def result_of(
    study: str,
    prompts: Sequence[Prompt],
    runs: Sequence[StudyRun],
    *,
    design: Design,
    truths: Sequence[Truth],
    target: str,
    judge: str,
    judge_id: str,
    contract: Mapping[str, Any],
    options: Mapping[str, Any],
    versions: Mapping[str, str],
) -> StudyResult:
    """What the runs say, beside the truths of the prompts."""
    members = tuple(
        StudyPrompt(id=prompt.id, prompt=prompt.text, truth=truth)
        for prompt, truth in zip(prompts, truths, strict=True)
    )
    points = [
        point
        for method in design.methods
        for draws in sorted(design.draws)
        for point in _points(method, draws, members, runs)
    ]
    needs = _needs(members, design, points, runs)
    return StudyResult(
        study=study,
        target=target,
        judge=judge,
        judge_id=judge_id,
        truth="exact" if members[0].truth.exact else "brute force",
        wanted=WANTED,
        contract=dict(contract),
        options=dict(options),
        versions=dict(versions),
        prompts=members,
        runs=tuple(runs),
        points=tuple(points),
        needs=tuple(needs),
        methods=tuple(
            summary_of(method, points=points, needs=needs, runs=runs) for method in design.methods
        ),
        shares=_shares(members, runs) if study == "strongreject" else (),
    )


def _points(
    method: str, draws: int, members: Sequence[StudyPrompt], runs: Sequence[StudyRun]
) -> list[Point]:
    """One method and number of draws; prompts that tuned it in every run are left out."""
    mine = [run for run in runs if (run.method, run.draws) == (method, draws)]
    tokens = float(np.mean([run.tokens / len(run.estimates) for run in mine]))
    found = []
    for member in members:
        estimates = _of(member.id, mine)
        if not estimates:
            continue
        values = [one.risk for one in estimates]
        errors = [one.standard_error for one in estimates]
        plain = method == NONE
        moved = deviation(
            values, member.truth, standard_errors=errors, plain_draws=draws if plain else None
        )
        error = relative_error(values, member.truth, standard_errors=errors)
        if plain:
            error = plain_error(member.truth.risk, draws) if member.truth.known else None
        found.append(
            Point(
                id=member.id,
                method=method,
                draws=draws,
                estimates=len(estimates),
                estimate=moved.estimate,
                standard_error=moved.standard_error,
                z=moved.z,
                error=error,
                tokens=tokens,
            )
        )
    return found


def _needs(
    members: Sequence[StudyPrompt],
    design: Design,
    points: Sequence[Point],
    runs: Sequence[StudyRun],
) -> list[Need]:
    """What the wanted error takes, of plain Monte Carlo too where only the truth was drawn so."""
    needs = []
    methods = [*([] if NONE in design.methods else [NONE]), *design.methods]
    for method in methods:
        source = BRUTE if method == NONE and NONE not in design.methods else method
        mine = [run for run in runs if run.method == source]
        if not mine:
            continue
        most = max(run.draws for run in mine)
        costs = [run for run in mine if run.draws == most]
        for member in members:
            draws = _draws_needed(member, method, points)
            tokens = None
            if draws is not None:
                each = [
                    tokens_for(
                        draws,
                        draws=most,
                        tokens=run.tokens,
                        once=run.once,
                        prompts=len(run.estimates),
                    )
                    for run in costs
                ]
                tokens = float(np.mean(each))
            needs.append(Need(id=member.id, method=method, draws=draws, tokens=tokens))
    return needs


def _draws_needed(member: StudyPrompt, method: str, points: Sequence[Point]) -> float | None:
    if not member.truth.known:
        return None
    if method == NONE:
        return plain_draws(member.truth.risk)
    mine = [point for point in points if (point.id, point.method) == (member.id, method)]
    return draws_for([point.error for point in mine], [point.draws for point in mine])


def _shares(members: Sequence[StudyPrompt], runs: Sequence[StudyRun]) -> tuple[ShareRow, ...]:
    """Share of prompts with an unsafe output among k draws, for k in 1, 2, 5, 10, ..."""
    weighted = [run for run in runs if run.method != BRUTE]
    (brute,) = (run for run in runs if run.method == BRUTE)
    estimates = [_of(member.id, weighted) for member in members]
    risks = [float(np.mean([one.risk for one in some])) for some in estimates]
    errors = [
        float(np.sqrt(np.sum([(one.standard_error or 0.0) ** 2 for one in some]))) / len(some)
        for some in estimates
    ]
    counted = [_of(member.id, [brute])[0] for member in members]
    rows = []
    for k in ladder_of_k(max(LONGEST_SHARE, brute.draws)):
        predicted = predicted_share(risks, errors, k)
        seen = seen_share([c.hits for c in counted], [c.draws - c.missing for c in counted], k)
        rows.append(
            ShareRow(
                k=k,
                predicted=predicted.share,
                predicted_error=predicted.standard_error,
                seen=None if seen is None else seen.share,
                seen_error=None if seen is None else seen.standard_error,
            )
        )
    return tuple(rows)


def ladder_of_k(most: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... up to `most`.

    >>> ladder_of_k(60)
    [1, 2, 5, 10, 20, 50]
    """
    found = [lead * 10**power for power in range(len(str(most))) for lead in (1, 2, 5)]
    return [k for k in found if k <= most]


def _of(name: str, runs: Sequence[StudyRun]) -> list[RunEstimate]:
    """The estimates of one prompt by these runs, in order."""
    return [one for run in runs for one in run.estimates if one.id == name]
