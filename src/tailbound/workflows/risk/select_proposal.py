"""A pilot between proposals: which one gives the most effective hits for its draws?

Each candidate speaks throughout in a few draws of a few prompts. With weights w = p / q and harm h,

    score = sum over prompts of (sum w h)^2 / sum (w h)^2,

the number of effective hits. Pilot draws are not used again, so the choice biases nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tailbound.audit.judge_queue import judge_draws, no_verdicts
from tailbound.core.contract import DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.importance_sampling import effective_sample_size
from tailbound.judges import Judge
from tailbound.workflows.risk.proposals.base import Proposal, engine_of

PROMPTS, DRAWS = 6, 32


def select_proposal(
    candidates: Sequence[Proposal], judge: Judge, prompts: Sequence[Prompt], *, seed: int
) -> tuple[Proposal, dict[str, Any]]:
    """The candidate with the most effective hits, ties to the first, and the reasons in words."""
    rng = np.random.default_rng([seed, 0x70696C6F])
    chosen = rng.permutation(len(prompts))[:PROMPTS]
    some = [prompts[number] for number in sorted(chosen.tolist())]
    table: list[dict[str, Any]] = []
    reasons: list[str] = []
    with step("choosing between proposals", total=len(candidates), stage="select_proposal") as now:
        for candidate in candidates:
            table.append({"id": candidate.id, **_pilot(candidate, judge, some, seed, reasons)})
            now.advance()
    if all(row["missing"] == row["draws"] for row in table):
        raise no_verdicts(judge.id, sum(row["draws"] for row in table), "pilot", reasons)
    best = max(range(len(candidates)), key=lambda n: (table[n]["effective_hits"], -n))
    others = ", ".join(
        f"{row['id']} {row['effective_hits']:.1f}" for n, row in enumerate(table) if n != best
    )
    reason = (
        f"{table[best]['effective_hits']:.1f} effective hits in {DRAWS * len(some)} pilot draws"
        + (f" (the others: {others})" if others else "")
    )
    return candidates[best], {"chosen": candidates[best].id, "reason": reason, "candidates": table}


def _pilot(
    candidate: Proposal, judge: Judge, prompts: Sequence[Prompt], seed: int, reasons: list[str]
) -> dict[str, Any]:
    assert candidate.variant is not None
    engine = engine_of(candidate.target, [candidate.variant(1.0)], spec=candidate.spec)
    segments = ((1, engine.contract.max_new_tokens),)
    requests = [
        DrawRequest(prompt=prompt, stream="select_proposal", index=index, segments=segments)
        for prompt in prompts
        for index in range(1, DRAWS + 1)
    ]
    draws = list(engine.draw(requests, seed=seed))
    effective, hits, missing = 0.0, 0, 0
    for prompt in prompts:
        mine = [draw for draw in draws if draw.prompt_id == prompt.id]
        verdicts = judge_draws(judge, [(draw, prompt) for draw in mine])
        missing += sum(verdict.missing for verdict in verdicts)
        reasons += [verdict.reason for verdict in verdicts if verdict.reason]
        harm = np.array([v.score is not None and v.score >= judge.threshold for v in verdicts])
        scored = engine.score(prompt, [draw.token_ids for draw in mine])
        log_weights = np.array([table[0].sum() - table[1].sum() for table in scored])
        hits += int(harm.sum())
        effective += effective_sample_size(np.where(harm, log_weights, -np.inf))
    return {"effective_hits": effective, "unsafe": hits, "missing": missing, "draws": len(draws)}
