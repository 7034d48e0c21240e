"""Self-checks before anything is spent: does steering do what it should, everywhere?

Hooks that silently edit no row, or edit other tokens in scoring than in sampling, give wrong
numbers that look right. A few short draws show, for every variant, that

* it moves the distribution of every token of a response (scoring);
* the log-probability that each token was sampled with is the one that scoring gives it under the
  variant that spoke it, also after a change of variants (so sampling does the same as scoring);
* weights have mean 1 over a small pilot of the family that is going to be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tailbound.core.contract import DrawRequest
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import TargetError, UsageError
from tailbound.importance_sampling import balance_heuristic, mean_weight
from tailbound.targets.capabilities import ProposalEngine
from tailbound.workflows.risk.proposal_mixture import Family, proposal_of_draw
from tailbound.workflows.risk.scores import table_of

PROMPTS, PILOT_DRAWS = 3, 100
LEAST_EFFECT = 1e-6
"""Movement of the logits, up to a common shift, below which a variant is the target itself."""
TOKEN_GAP = {"float32": 1e-3, "float64": 1e-3}
"""Largest |sampled - scored| log-probability of a token, in nats; `LOW_PRECISION_GAP` elsewhere."""
LOW_PRECISION_GAP = 0.5
LARGEST_Z = 5.0


def check_engine(
    engine: ProposalEngine, family: Family, prompts: Sequence[Prompt], *, seed: int
) -> dict[str, Any]:
    """Run the checks on the first few prompts; what was found, for the record.

    Raises `UsageError` for a variant that changes nothing and `TargetError` where sampling and
    scoring disagree or weights do not have mean 1.
    """
    some = list(prompts[:PROMPTS])
    with step("checking the proposal", stage="self-checks"):
        effects = _check_voices(engine, some, seed)
        mean, z = _check_weights(engine, family, some, seed)
    return {"least_effect": effects, "mean_weight": mean, "mean_weight_z": z}


def _check_voices(engine: ProposalEngine, prompts: Sequence[Prompt], seed: int) -> dict[str, float]:
    longest = engine.contract.max_new_tokens
    by_id = {prompt.id: prompt for prompt in prompts}
    allowed = TOKEN_GAP.get(engine.contract.precision, LOW_PRECISION_GAP)
    effects: dict[str, float] = {}
    for number, variant in enumerate(engine.variants[1:], start=1):
        schedules = (((number, longest),), ((0, 1), (number, longest)), ((number, 1),))
        requests = [
            DrawRequest(prompt=prompt, stream="check", index=index, segments=segments)
            for prompt in prompts
            for index, segments in enumerate(schedules, start=1)
        ]
        least = np.inf
        for traced in engine.trace(requests, seed=seed):
            response = traced.draw.token_ids
            effect = engine.effect(number, by_id[traced.draw.prompt_id], response)
            least = min(least, float(effect.min()))
            if not least > LEAST_EFFECT:
                place = int(np.argmin(effect))
                raise UsageError(
                    f"proposal {variant.name} does not change the model (token {place} of a reply "
                    f"to prompt {traced.draw.prompt_id!r} has the same distribution): use another"
                )
            steps = np.arange(len(response))
            segments = schedules[traced.draw.index - 1]
            spoken_by = [next((v for v, stop in segments if t < stop), 0) for t in steps.tolist()]
            gap = np.abs(traced.spoken - traced.scored[spoken_by, steps])
            # -inf: a token at the edge of a truncated distribution, which rounding may drop
            worst = float(gap[np.isfinite(gap)].max(initial=0.0))
            if worst > allowed:
                raise TargetError(
                    f"proposal {variant.name}: token {int(np.nanargmax(gap))} of a reply to prompt "
                    f"{traced.draw.prompt_id!r} was sampled with another probability than scoring "
                    f"gives it ({worst:.2g} nats apart): the weights would be wrong"
                )
        effects[variant.name] = least
    return effects


def _check_weights(
    engine: ProposalEngine, family: Family, prompts: Sequence[Prompt], seed: int
) -> tuple[float, float]:
    """Mean weight and its z-score over a pilot of each prompt, pooled."""
    weights: list[np.ndarray[Any, Any]] = []
    counts = family.counts(PILOT_DRAWS, [])
    labels = proposal_of_draw(counts)
    coins = np.random.default_rng([seed, 0x636F696E])
    for prompt in prompts:
        requests = [
            DrawRequest(
                prompt=prompt,
                stream="check-weights",
                index=index,
                segments=family.segments(int(label), coins),
            )
            for index, label in enumerate(labels.tolist(), start=1)
        ]
        draws = sorted(engine.draw(requests, seed=seed), key=lambda draw: draw.index)
        tokens, lengths = table_of(engine.score(prompt, [draw.token_ids for draw in draws]))
        densities = family.log_densities(tokens, lengths)
        weights.append(balance_heuristic(densities[0], densities, counts))
    mean, z = mean_weight(np.concatenate(weights), np.tile(labels, len(prompts)))
    if abs(z) > LARGEST_Z:
        raise TargetError(
            f"the mean weight of {len(prompts) * PILOT_DRAWS} pilot draws is {mean:.3g} "
            f"(z = {z:.1f}), and should be 1: a density is wrong"
        )
    return mean, z
